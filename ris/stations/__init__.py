"""What health stations ask for and send, apart from the wire."""
