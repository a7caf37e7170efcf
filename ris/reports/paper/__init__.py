"""A report on paper: an A4 PDF as a hospital hands it out."""
