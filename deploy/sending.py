"""Send DICOM files to a peer by C-STORE, each dataset exactly as it lies in its file."""
