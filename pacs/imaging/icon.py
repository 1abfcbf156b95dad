"""A sheet of paper with a word on it: stands for what is no picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pacs.imaging import lettering, pictures
from pacs.imaging.options import RenderOptions

_WIDTH, _HEIGHT, _FOLD = 160, 200, 40
_PAPER, _SHADE, _EDGE, _INK = (250, 250, 250), (220, 224, 230), (120, 130, 140), (50, 70, 100)


def icon(label: str, options: RenderOptions) -> bytes:
    """The image file of a sheet that says ``label``."""
    return pictures.encode(drawn(label), options)


def drawn(label: str) -> NDArray[np.uint8]:
    """(200, 160, 3) RGB."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), (255, 255, 255))
    pen = ImageDraw.Draw(image)
    right, bottom = _WIDTH - 9, _HEIGHT - 5
    outline = [(8, 4), (right - _FOLD, 4), (right, 4 + _FOLD), (right, bottom), (8, bottom)]
    pen.polygon(outline, fill=_PAPER, outline=_EDGE, width=2)
    pen.polygon([(right - _FOLD, 4), (right, 4 + _FOLD), (right - _FOLD, 4 + _FOLD)], fill=_SHADE, outline=_EDGE)
    for y in range(130, bottom - 15, 14):
        pen.line((26, y, right - 18, y), _SHADE, 4)
    size = 44
    while size > 10 and lettering.font_for(label, size).getlength(label) > _WIDTH - 40:
        size -= 2
    length = lettering.font_for(label, size).getlength(label)
    lettering.write(pen, ((_WIDTH - length) / 2, 95 - size / 2), label, size, _INK)
    return np.asarray(image)
