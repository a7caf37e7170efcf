"""``/stations/v1``: what health stations fetch and send, over thin lines, hours or days late."""
