"""The DICOM services that we call on others."""

from pacs.scu.verification import echo, is_alive

__all__ = ["echo", "is_alive"]
