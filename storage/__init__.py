"""What is kept: bytes, index and access."""
