"""Who is seen and how it was made, written onto the picture (``annotation=``, PS3.18 8.3.5.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pacs.dicom.model import Attributes
from pacs.imaging import lettering
from pacs.imaging.source import decimal, first, items

LEGIBLE_SIDE = 512  # a smaller picture is enlarged to this before it is written on, unless a viewport says its size

_STRIP_LETTERS = 18

# Tag, what stands before the value, what after it.
_TECHNIQUE = (
    ("00180060", "", " kV"),
    ("00181151", "", " mA"),
    ("00181150", "", " ms"),
    ("00180050", "", " mm"),
    ("00180080", "TR ", ""),
    ("00180081", "TE ", ""),
    ("00180087", "", " T"),
    ("00181210", "", ""),
    ("00180015", "", ""),
    ("00185101", "", ""),
)


def write(pixels: NDArray[np.uint8], attributes: Attributes, what: Sequence[str]) -> NDArray[np.uint8]:
    """The picture, grey or RGB, with what is known in its upper (patient) and lower left corner (technique)."""
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    width, height = image.size
    margin = max(2, min(width, height) // 64)
    middle = height // 2
    if "patient" in what and (lines := patient_lines(attributes)):
        lettering.block(image, lines, (margin, margin, width - margin, middle), bottom=False)
    if "technique" in what and (lines := technique_lines(attributes)):
        lettering.block(image, lines, (margin, middle, width - margin, height - margin), bottom=True)
    shown = np.asarray(image)
    return shown if pixels.ndim == 3 else np.ascontiguousarray(shown[..., 0])


def above(pixels: NDArray[np.uint8], attributes: Attributes, what: Sequence[str]) -> NDArray[np.uint8]:
    """An RGB drawing under a strip with the same words, in its own colours: nothing that is drawn may be covered."""
    columns = [
        patient_lines(attributes) if "patient" in what else [],
        technique_lines(attributes) if "technique" in what else [],
    ]
    columns = [lines for lines in columns if lines]
    if not columns:
        return pixels
    width = pixels.shape[1]
    line_height = _STRIP_LETTERS * 3 // 2
    ground = (255, 255, 255) if pixels[0, 0].min() > 127 else (0, 0, 0)
    ink = (0, 0, 0) if ground[0] else (255, 255, 255)
    strip = Image.new("RGB", (width, max(len(lines) for lines in columns) * line_height + 12), ground)
    pen = ImageDraw.Draw(strip)
    for place, lines in enumerate(columns):
        for row, line in enumerate(lines):
            at = (12 + place * width // len(columns), 6 + row * line_height)
            lettering.write(pen, at, line[: width // len(columns) // _STRIP_LETTERS * 2], _STRIP_LETTERS, ink)
    return np.concatenate([np.asarray(strip), pixels])


def patient_lines(attributes: Attributes) -> list[str]:
    """Name, ID, birth date and sex, as far as they are known."""
    born, sex, age = (_text(attributes, tag) for tag in ("00100030", "00100040", "00101010"))
    if not any(digit in age for digit in "123456789"):
        age = ""
    lines = [name_of(first(attributes, "00100010", "")), _text(attributes, "00100020")]
    lines.append("  ".join(part for part in (f"*{date_of(born)}" if born else "", sex, age.lstrip("0")) if part))
    return [line for line in lines if line]


def technique_lines(attributes: Attributes) -> list[str]:
    """When, what and with which settings."""
    when = f"{date_of(_text(attributes, '00080020'))} {time_of(_text(attributes, '00080030'))}".strip()
    where = " ".join(part for part in (_text(attributes, "00080060"), _text(attributes, "00081090")) if part)
    settings = [
        f"{before}{number}{after}" for tag, before, after in _TECHNIQUE if (number := _setting(attributes, tag))
    ]
    place = [
        f"{name} {value}" for name, tag in (("Se", "00200011"), ("Im", "00200013")) if (value := _text(attributes, tag))
    ]
    lines = [_text(attributes, "00080080"), _text(attributes, "00081030"), _text(attributes, "0008103E"), where]
    return [line for line in (*lines, "  ".join(settings), "  ".join(place), when) if line]


def name_of(value: object) -> str:
    """A DICOM JSON name for reading: "Doe, Jane"; the ideographic form after it where it can be drawn."""
    if not isinstance(value, dict):
        return str(value)
    groups = [_spoken(str(value.get(group) or "")) for group in ("Alphabetic", "Ideographic")]
    if groups[0] and groups[1] and not lettering.can_draw(groups[1]):
        del groups[1]
    return " ".join(group for group in groups if group)


def date_of(text: str) -> str:
    """ "19700131" as "1970-01-31"; what is no date stays."""
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) >= 8 and text[:8].isdigit() else text


def time_of(text: str) -> str:
    """ "101500.00" as "10:15:00"; what is no time stays."""
    return ":".join((text[:2], text[2:4], text[4:6])).rstrip(":") if text[:4].isdigit() else text


def _spoken(group: str) -> str:
    family, *given = (part.strip() for part in group.split("^"))
    rest = " ".join(part for part in given if part)
    return f"{family}, {rest}" if family and rest else family or rest


def _setting(attributes: Attributes, tag: str) -> str:
    value = first(attributes, tag)
    if value is None:  # enhanced objects keep it in a functional group that all frames share
        for shared in items(attributes, "52009229"):
            found = [first(item, tag) for element in shared.values() for item in _items(element)]
            value = next((each for each in found if each is not None), None)
    if value is None:
        return ""
    number = decimal(value)
    return f"{number:g}" if number is not None else str(value).strip()


def _items(element: object) -> list[Attributes]:
    values = element.get("Value", ()) if isinstance(element, dict) else ()
    return [item for item in values if isinstance(item, dict)]


def _text(attributes: Attributes, tag: str) -> str:
    return str(first(attributes, tag, "")).strip()
