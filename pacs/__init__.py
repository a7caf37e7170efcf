"""How images come and go: DIMSE services, ingest, retrieval and pixels."""
