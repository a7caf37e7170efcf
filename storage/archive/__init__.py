"""The index: patients, studies, series and instances, and how they are searched."""
