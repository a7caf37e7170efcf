"""The DICOM services that others call: the Upper Layer acceptor and the DIMSE SCPs."""
