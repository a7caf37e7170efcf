"""The pages: sign in, list of studies, the way to the viewer."""
