"""The DICOM Upper Layer (PS3.8) and DIMSE messages (PS3.7), for both ends of an association."""
