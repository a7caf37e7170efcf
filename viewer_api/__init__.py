"""What people and stations see: DICOMweb and the operations API over HTTP."""
