"""Parts of a page that the PDF library lacks, or has with a face that is not packed."""

from functools import cache
from io import BytesIO
from typing import Final

from reportlab.graphics.barcode.qrencoder import QRCode, QRErrorCorrectLevel
from reportlab.lib.utils import ImageReader
from reportlab.platypus import Flowable, Image

QUIET_ZONE: Final = 4
"""Modules of white around a QR code (ISO/IEC 18004)."""


class QrCode(Flowable):
    """A QR code of `size` by `size` points, with its quiet zone, at the right of its place."""

    def __init__(self, content: str, size: float) -> None:
        super().__init__()
        self.width = self.height = size
        self.hAlign = "RIGHT"
        self._modules = _modules(content)

    def wrap(self, *_room: float) -> tuple[float, float]:
        """Return how large it is."""
        return self.width, self.height

    def draw(self) -> None:
        """Draw the dark modules, each run of a row in one piece so that no line shows."""
        step = self.width / (len(self._modules) + 2 * QUIET_ZONE)
        for row, modules in enumerate(self._modules):
            bottom = self.height - (QUIET_ZONE + row + 1) * step
            start = 0
            while start < len(modules):
                end = start
                while end < len(modules) and modules[end]:
                    end += 1
                if end > start:
                    left = (QUIET_ZONE + start) * step
                    self.canv.rect(left, bottom, (end - start) * step, step, stroke=0, fill=1)
                start = end + 1


@cache
def _modules(content: str) -> tuple[tuple[bool, ...], ...]:
    code = QRCode(None, QRErrorCorrectLevel.M)
    code.addData(content)
    code.make()
    return tuple(tuple(map(bool, row)) for row in code.modules)


def fitted(content: bytes, width: float, height: float) -> Image:
    """Return a picture as large as fits into `width` by `height` points.

    Raises
    ------
    OSError
        It is no picture that can be printed.
    """
    across, down = ImageReader(BytesIO(content)).getSize()
    scale = min(width / across, height / down)
    return Image(BytesIO(content), across * scale, down * scale)
