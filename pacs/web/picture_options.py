"""Query parameters that say how a picture is made (PS3.18 8.3.5.1)."""

from __future__ import annotations

from multidict import MultiMapping

from pacs.errors import Invalid
from pacs.imaging.options import RenderOptions, Viewport, Window


def picture_options(query: MultiMapping[str]) -> RenderOptions:
    """All of them; the media type is the default. Raises Invalid for what is malformed; unknown parameters are left."""
    quality = query.get("quality", "").strip() or "90"
    if not (quality.isascii() and quality.isdigit() and 1 <= int(quality[:4]) <= 100):
        raise Invalid("quality must be 1 to 100", "quality")
    annotation = ",".join(query.getall("annotation", [])).lower().split(",")
    return RenderOptions(
        quality=int(quality),
        window=window_of(query),
        viewport=viewport_of(query),
        annotation=tuple(dict.fromkeys(word.strip() for word in annotation if word.strip())),
        icc_profile=query.get("iccprofile", "").strip().lower() or "no",
    )


def window_of(query: MultiMapping[str]) -> Window | None:
    """``window=center,width[,function]``; None when it is absent or empty."""
    text = query.get("window")
    if text is None or not text.strip():
        return None
    pieces = [piece.strip() for piece in text.split(",")]
    if len(pieces) not in (2, 3):
        raise Invalid("window must be center,width or center,width,function", "window")
    function = pieces[2].upper().replace("-", "_") if len(pieces) == 3 else "LINEAR"
    return Window(_number(pieces[0], "window"), _number(pieces[1], "window"), function or "LINEAR")


def viewport_of(query: MultiMapping[str]) -> Viewport | None:
    """``viewport=vw,vh[,sx,sy[,sw,sh]]``; None when it is absent or empty."""
    text = query.get("viewport")
    if text is None or not text.strip():
        return None
    pieces = [piece.strip() for piece in text.split(",")]
    if len(pieces) not in (2, 4, 6):
        raise Invalid("viewport must be vw,vh or vw,vh,sx,sy,sw,sh", "viewport")
    pieces += [""] * (6 - len(pieces))
    width, height = (_number(piece, "viewport") for piece in pieces[:2])
    if width != int(width) or height != int(height):
        raise Invalid("viewport width and height must be whole numbers", "viewport")
    x, y, source_width, source_height = (_number(piece, "viewport") if piece else None for piece in pieces[2:])
    return Viewport(int(width), int(height), x or 0.0, y or 0.0, source_width, source_height)


def _number(text: str, name: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise Invalid(f"{name} must hold numbers", name) from error
    if not abs(number) < 1e30:
        raise Invalid(f"{name} must hold numbers", name)
    return number
