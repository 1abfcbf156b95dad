"""Colours of a picture from the profile that its image carries to the one that is asked (PS3.18 8.3.5.1.5)."""

from __future__ import annotations

import io
import struct
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pacs.imaging.source import Reader, Source, items

_PROFILE, _OPTICAL_PATHS = "00282000", "00480105"
_LARGEST = 16 << 20

# Adobe RGB (1998) and ROMM RGB (ISO 22028-2), adapted to D50: gamma, then X Y Z of red, green and blue.
_SPACES = {
    "adobergb": (
        "Adobe RGB (1998) compatible",
        2.19921875,
        ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
    ),
    "rommrgb": (
        "ROMM RGB",
        1.80078125,
        ((0.79767, 0.28804, 0.0), (0.13519, 0.71187, 0.0), (0.03135, 0.00009, 0.82491)),
    ),
}
_D50 = (0.9642, 1.0, 0.8249)


def convert(
    source: Source, reader: Reader, pixels: NDArray[np.uint8], wanted: str
) -> tuple[NDArray[np.uint8], bytes | None]:
    """(the picture in the colours asked, the profile to embed or None). wanted: of ``options.ICC_PROFILES``.

    Grey pictures without a wish stay grey. A profile that cannot be read counts as none, and none as sRGB.
    """
    own = embedded(source, reader) if pixels.ndim == 3 else b""
    if wanted == "no":
        return (_transformed(pixels, own, srgb()) if own else pixels), None
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if wanted == "yes":
        return pixels, own or srgb()
    target = srgb() if wanted == "srgb" else made(wanted)
    return (pixels if not own and wanted == "srgb" else _transformed(pixels, own or srgb(), target)), target


def embedded(source: Source, reader: Reader) -> bytes:
    """The image's ICC Profile (PS3.3 C.11.15), also of a whole slide's optical path; b"" when it has none for RGB."""
    places = [("", source.attributes)]
    places += [(f"{_OPTICAL_PATHS}/{n}/", item) for n, item in enumerate(items(source.attributes, _OPTICAL_PATHS), 1)]
    for path, attributes in places:
        span = source.layout.bulk.get(path + _PROFILE)
        if _PROFILE not in attributes or (span is not None and span.length > _LARGEST):
            continue
        profile = source.bulk(reader, path + _PROFILE, attributes[_PROFILE])
        length = int.from_bytes(profile[:4], "big")
        if 128 < length <= len(profile) and profile[16:20] == b"RGB " and profile[36:40] == b"acsp":
            return profile[:length]
    return b""


@cache
def srgb() -> bytes:
    """The sRGB profile, the same bytes each time."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # the time of making would change the validators
    return bytes(profile)


@cache
def made(space: str) -> bytes:
    """An ICC version 2 matrix profile of one of ``_SPACES``."""
    name, gamma, primaries = _SPACES[space]
    text = name.encode("ascii") + b"\0"
    curve = b"curv" + struct.pack(">IIHH", 0, 1, round(gamma * 256), 0)
    tags = [
        (b"desc", b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(78)),
        (b"cprt", b"text" + bytes(4) + b"No copyright\0"),
        (b"wtpt", _xyz(_D50)),
        *((f"{channel}XYZ".encode(), _xyz(values)) for channel, values in zip("rgb", primaries, strict=True)),
        *((f"{channel}TRC".encode(), curve) for channel in "rgb"),
    ]
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for signature, content in tags:
        table += signature + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    size = start + len(data)
    header = struct.pack(">I4sI4s4s4s6H4s", size, bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ",
                         2000, 1, 1, 0, 0, 0, b"acsp")  # fmt: skip
    return header + bytes(28) + _xyz(_D50)[8:] + bytes(48) + table + data


def _transformed(pixels: NDArray[np.uint8], before: bytes, after: bytes) -> NDArray[np.uint8]:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(before)), ImageCms.ImageCmsProfile(io.BytesIO(after)), "RGB", "RGB"
        )
        return np.asarray(ImageCms.applyTransform(image, transform))
    except (ImageCms.PyCMSError, OSError, ValueError):
        return pixels


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))
