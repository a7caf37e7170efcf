"""Signatures on the PDF of a report: by this server, or by who keeps the doctor's key."""
