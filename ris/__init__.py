"""What shall be done and what was found: orders, steps and reports."""
