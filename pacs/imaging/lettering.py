"""Text on pictures, in a font that comes with Pillow, or one of the system's where that lacks a letter."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Color = tuple[int, int, int]

_SMALLEST = 9
_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "arialuni.ttf",
)


def font_for(text: str, size: int) -> Font:
    """A font that has all letters of the text, as far as there is one. size: pixels."""
    own = ImageFont.load_default(size)
    if text.isascii() or _draws(own, text):
        return own
    for name in _SYSTEM_FONTS:
        try:
            font = ImageFont.truetype(name, size)
        except OSError:
            continue
        if _draws(font, text):
            return font
    return own


def can_draw(text: str) -> bool:
    """Whether some font here has all letters of the text."""
    return text.isascii() or _draws(font_for(text, 16), text)


def write(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, color: Color = (0, 0, 0)) -> None:
    """One line, its left upper corner at ``at``."""
    draw.text(at, text, fill=color, font=font_for(text, size))


def block(image: Image.Image, lines: Sequence[str], box: tuple[int, int, int, int], *, bottom: bool) -> None:
    """Lines in white on a darkened ground, from the top of a box or standing on its bottom. image: RGB, drawn on.

    box: left, top, right, bottom in pixels. Letters shrink until all fit; lines that are still too long are cut.
    """
    left, top, right, end = box
    room, height = max(1, right - left), max(1, end - top)
    size = max(_SMALLEST, min(32, height // 14, room // 24))
    while size > _SMALLEST and (
        max(font_for(line, size).getlength(line) for line in lines) > room or _height(size) * len(lines) > height
    ):
        size -= 1
    lines = lines[: max(1, height // _height(size))]
    fonts = [font_for(line, size) for line in lines]
    shown = [_cut(line, font, room) for line, font in zip(lines, fonts, strict=True)]
    y = end - _height(size) * len(lines) if bottom else top
    widest = max(font.getlength(line) for line, font in zip(shown, fonts, strict=True))
    ground = (max(0, left - 3), max(0, y - 2), left + round(widest) + 4, y + _height(size) * len(lines) + 2)
    image.paste(image.crop(ground).point(lambda value: value // 4), ground[:2])
    draw = ImageDraw.Draw(image)
    for line, font in zip(shown, fonts, strict=True):
        draw.text((left, y), line, fill=(255, 255, 255), font=font)
        y += _height(size)


def _height(size: int) -> int:
    return round(size * 1.3)


def _cut(line: str, font: Font, room: int) -> str:
    while len(line) > 1 and font.getlength(line) > room:
        line = line[:-2].rstrip("…") + "…" if len(line) > 2 else line[:1]
    return line


def _draws(font: Font, text: str) -> bool:
    missing = bytes(font.getmask("\U0010ffff"))  # no character: the box that stands for a letter that is not there
    return all(bytes(font.getmask(letter)) != missing for letter in set(text) if not letter.isspace())
