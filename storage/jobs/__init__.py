"""Work that a transaction causes and somebody does later: at least once, in any process."""
