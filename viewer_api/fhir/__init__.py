"""FHIR R4 on what the archive and the RIS hold: read, search, subscriptions."""
