"""What the health insurance wants to know of each service that was performed (XML3 and XML4)."""
