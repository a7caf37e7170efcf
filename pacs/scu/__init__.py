"""The DICOM services that we call on others."""
