"""Work that people and machines take over from each other: the Unified Procedure Step."""
