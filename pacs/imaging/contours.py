"""RT structure sets as a drawing: all contours of all regions, seen along the patient's axis (PS3.3 C.8.8.6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pacs.dicom.model import Attributes
from pacs.errors import Undecodable
from pacs.imaging import lettering
from pacs.imaging.source import decimal, first, items

_SIDE, _LEGEND, _MARGIN = 640, 240, 20
_MOST_POINTS = 2_000_000
_MOST_LINES = 28
_COLORS = ((255, 90, 80), (90, 200, 110), (100, 150, 255), (240, 200, 70), (200, 120, 230), (90, 210, 220))


def draw(attributes: Attributes) -> NDArray[np.uint8]:
    """(rows, columns, 3) RGB with a legend. x goes to the patient's left, y to the back: a view from the feet.

    Raises Undecodable when there are no contours.
    """
    names = {first(roi, "30060022"): str(first(roi, "30060026", "")) for roi in items(attributes, "30060020")}
    regions = []
    points = 0
    for place, region in enumerate(items(attributes, "30060039")):
        lines = [_points(contour) for contour in items(region, "30060040")]
        lines = [line for line in lines if len(line)]
        points += sum(len(line) for line in lines)
        if points > _MOST_POINTS:
            raise Undecodable("the structure set has more contours than are drawn here")
        name = names.get(first(region, "30060084"), "") or f"ROI {first(region, '30060084', place + 1)}"
        regions.append((name, _color(region, place), lines))
    everything = [line for _, _, lines in regions for line in lines]
    if not everything:
        raise Undecodable("the structure set has no contours")
    low = np.min([line.min(axis=0) for line in everything], axis=0)
    high = np.max([line.max(axis=0) for line in everything], axis=0)
    scale = (_SIDE - 2 * _MARGIN) / max(1e-3, float((high - low).max()))
    shift = (_SIDE - (high - low) * scale) / 2
    image = Image.new("RGB", (_SIDE + _LEGEND, _SIDE), (0, 0, 0))
    pen = ImageDraw.Draw(image)
    for _, color, lines in regions:
        for line in lines:
            flat = [(float(x), float(y)) for x, y in (line - low) * scale + shift]
            if len(flat) == 1:
                pen.ellipse((flat[0][0] - 2, flat[0][1] - 2, flat[0][0] + 2, flat[0][1] + 2), fill=color)
            else:
                pen.line([*flat, flat[0]], color, 1)
    for row, (name, color, lines) in enumerate(regions[:_MOST_LINES]):
        y = _MARGIN + row * 21
        pen.rectangle((_SIDE, y + 2, _SIDE + 12, y + 14), fill=color)
        lettering.write(pen, (_SIDE + 20, y), f"{name[:24]} ({len(lines)})", 14, (230, 230, 230))
    if len(regions) > _MOST_LINES:
        lettering.write(pen, (_SIDE + 20, _SIDE - 24), f"and {len(regions) - _MOST_LINES} more", 14, (230, 230, 230))
    return np.asarray(image)


def _points(contour: Attributes) -> NDArray[np.float64]:
    """(n, 2): x and y in mm; none for data that are damaged."""
    values = [decimal(value) for value in contour.get("30060050", {}).get("Value", ())]
    whole = len(values) // 3 * 3
    if not whole or None in values:
        return np.empty((0, 2))
    return np.array(values[:whole], np.float64).reshape(-1, 3)[:, :2]


def _color(region: Attributes, place: int) -> tuple[int, int, int]:
    values = [decimal(value) for value in region.get("3006002A", {}).get("Value", ())]
    if len(values) == 3 and None not in values:
        red, green, blue = (min(255, max(0, int(value or 0))) for value in values)
        return red, green, blue
    return _COLORS[place % len(_COLORS)]
