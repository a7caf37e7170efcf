"""The viewer's own origin: OHIF's files, its configuration, the login that is handed over."""
