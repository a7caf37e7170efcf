"""The object store: a small protocol with two implementations, a folder and S3."""
