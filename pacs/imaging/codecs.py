"""Compressed frames to arrays: which decoder takes what, imagecodecs first.

Every family has a second way in, so that frames are decoded without imagecodecs (which has no wheel for some
platforms) and without pylibjpeg-libjpeg (which is GPL). Codecs are imported when first needed: workers stay small.
"""

from __future__ import annotations

import importlib
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pacs.errors import Undecodable
from pacs.imaging import codestream, rle
from pacs.imaging.codestream import Codestream

Array = NDArray[Any]

MAX_FRAME_BYTES = 1 << 30  # of one decoded frame

_PREFIX = "1.2.840.10008.1.2."
FAMILIES = {
    _PREFIX + uid: family
    for family, uids in {
        "jpeg": ("4.50", "4.51", "4.53", "4.55"),
        "jpeg-lossless": ("4.57", "4.70"),
        "jpeg-ls": ("4.80", "4.81"),
        "jpeg-2000": ("4.90", "4.91"),
        "htj2k": ("4.201", "4.202", "4.203"),
        "rle": ("5",),
        "deflated": ("8.1",),
        "plain": ("1.98",),
    }.items()
    for uid in uids
}
_SUBSAMPLED = ("YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the data set says of a frame. photometric: Photometric Interpretation; signed: Pixel Representation 1."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    signed: bool
    photometric: str
    planar: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        if self.bits_allocated == 1:
            return np.dtype(np.uint8)
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.rows, self.columns, self.samples


def decode(transfer_syntax_uid: str, data: bytes, wanted: Wanted) -> tuple[Array, str]:
    """One compressed frame as (rows, columns, samples) of ``wanted.dtype``, and the Photometric Interpretation it has.

    Raises Undecodable.
    """
    family = FAMILIES.get(transfer_syntax_uid)
    if family is None:
        raise Undecodable("pixel data in this transfer syntax cannot be decoded")
    if wanted.rows * wanted.columns * wanted.samples * wanted.bits_allocated // 8 > MAX_FRAME_BYTES:
        raise Undecodable("the frame is larger than is decoded here")
    if family in ("rle", "deflated", "plain"):
        planes_first = wanted.planar or family == "rle"
        if wanted.bits_allocated == 1:
            return _unpacked_bits(_UNPACKERS[family](data, wanted), wanted), wanted.photometric
        return _shaped(_UNPACKERS[family](data, wanted), wanted, planes_first), wanted.photometric
    head = codestream.jpeg2000(data) if family in ("jpeg-2000", "htj2k") else codestream.jpeg(data)
    if (head.rows, head.columns, head.components) != wanted.shape:
        found = f"{head.columns}x{head.rows}x{head.components}"
        raise Undecodable(f"the codestream is of another size ({found}) than the data set says")
    if head.precision > wanted.bits_allocated:
        raise Undecodable("the codestream has more bits than Bits Allocated")
    if head.offset:
        data = data[head.offset :]
    if family.startswith("jpeg") and family != "jpeg-2000" and data.rfind(b"\xff\xd9") < 0:
        raise Undecodable("the JPEG codestream ends early")  # decoders would fill the rest with grey and say nothing
    color = _color_after(family, head, wanted)
    array = _first_that_works(_WAYS[family](head, wanted), data)
    if array.size != wanted.rows * wanted.columns * wanted.samples:
        raise Undecodable("the decoded frame is of another size than its header says")
    return _typed(array.reshape(wanted.shape), head, wanted), color


def photometric_after(transfer_syntax_uid: str, data: bytes, wanted: Wanted) -> str:
    """What ``decode`` will say of this frame's colours; reads its header only."""
    family = FAMILIES.get(transfer_syntax_uid, "")
    if family not in _WAYS:
        return wanted.photometric
    head = codestream.jpeg2000(data) if family in ("jpeg-2000", "htj2k") else codestream.jpeg(data)
    return _color_after(family, head, wanted)


def expected_photometric(transfer_syntax_uid: str, photometric: str) -> str:
    """What frames of three samples have once decoded, as far as the data set alone can tell."""
    return _color_expected(FAMILIES.get(transfer_syntax_uid, ""), photometric)


def _color_expected(family: str, photometric: str) -> str:
    if family in ("jpeg-2000", "htj2k"):
        # Decoders undo the component transform (PS3.5 8.2.4).
        return "RGB" if photometric in ("YBR_ICT", "YBR_RCT") else photometric
    if family == "jpeg":
        # Full samples under a label that says otherwise mislead viewers: they keep the label of the stored instance,
        # and take samples that are all there for RGB. DCMTK makes RGB as well. YBR_FULL is shown as what it is.
        return "RGB" if photometric in _SUBSAMPLED else photometric
    # Lossless processes transform nothing, whatever marker the encoder left (PS3.5 8.2.2, 8.2.3).
    return "YBR_FULL" if family in _WAYS and photometric == "YBR_FULL_422" else photometric


def _color_after(family: str, head: Codestream, wanted: Wanted) -> str:
    if wanted.samples != 3:
        return wanted.photometric
    if family == "jpeg" and (head.color == "RGB" or not wanted.photometric.startswith("YBR")):
        return "RGB"
    color = _color_expected(family, wanted.photometric)
    return "YBR_FULL" if family == "jpeg" and color != "RGB" else color


def _typed(array: Array, head: Codestream, wanted: Wanted) -> Array:
    """To ``wanted.dtype``; the sign is taken from Pixel Representation whatever the codestream's type says.

    JPEG and JPEG-LS know no sign, and JPEG 2000 encoders got it wrong both ways.
    """
    bits = wanted.bits_allocated
    spare = bits - head.precision
    if array.dtype.kind != "iu"[not wanted.signed] and spare:
        unsigned = array.astype(f"u{bits // 8}")
        if not wanted.signed:
            masked: Array = unsigned & np.asarray((1 << head.precision) - 1, unsigned.dtype)
            return masked
        extended: Array = (unsigned << np.asarray(spare, unsigned.dtype)).view(wanted.dtype) >> spare
        return extended
    return array.astype(wanted.dtype, copy=False)


def _shaped(raw: bytes | bytearray, wanted: Wanted, planes_first: bool) -> Array:
    expected = wanted.rows * wanted.columns * wanted.samples * wanted.dtype.itemsize
    if len(raw) < expected:
        raise Undecodable("the frame ends before its last pixel")
    array = np.frombuffer(raw, wanted.dtype, expected // wanted.dtype.itemsize)
    if planes_first and wanted.samples > 1:
        return np.moveaxis(array.reshape(wanted.samples, wanted.rows, wanted.columns), 0, 2)
    return array.reshape(wanted.shape)


def _unpacked_bits(raw: bytes | bytearray, wanted: Wanted) -> Array:
    count = wanted.rows * wanted.columns * wanted.samples
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
    if len(bits) < count:
        raise Undecodable("the frame ends before its last pixel")
    return bits[:count].reshape(wanted.shape)


# Frames that carry no header of their own.


def _unpack_rle(data: bytes, wanted: Wanted) -> bytes | bytearray:
    if wanted.bits_allocated == 1:
        raise Undecodable("RLE knows no single bits")
    plane, samples, size = wanted.rows * wanted.columns, wanted.samples, wanted.dtype.itemsize
    if len(data) * 64 < plane * samples * size:  # PackBits makes at most 128 bytes of 2
        raise Undecodable("the RLE frame is too short for its size")
    bounds = rle.segment_bounds(data, samples * size)
    if (imagecodecs := _optional("imagecodecs")) is not None:
        try:
            decoded: bytes = imagecodecs.dicomrle_decode(data[: bounds[-1][1]], f"<u{size}")
            if len(decoded) == plane * samples * size:
                return decoded
        except (ValueError, RuntimeError, IndexError):
            pass  # stricter than need be about what follows a full plane
    planes = rle.decode_frame(data, plane, samples * size)
    out = np.empty((samples, plane, size), np.uint8)
    for index, segment in enumerate(planes):
        out[index // size, :, size - 1 - index % size] = np.frombuffer(segment, np.uint8)
    return out.tobytes()


def _unpack_deflated(data: bytes, wanted: Wanted) -> bytes:
    limit = wanted.rows * wanted.columns * wanted.samples * wanted.dtype.itemsize
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit)
    except zlib.error as err:
        raise Undecodable("the deflated frame cannot be inflated") from err


def _unpack_plain(data: bytes, wanted: Wanted) -> bytes:
    return data


_UNPACKERS: dict[str, Callable[[bytes, Wanted], bytes | bytearray]] = {
    "rle": _unpack_rle,
    "deflated": _unpack_deflated,
    "plain": _unpack_plain,
}

# The ways into each family, best first: functions of the codestream. A generator imports only what it comes to.
Way = Callable[[bytes], Array]


def _first_that_works(ways: Iterator[Way], data: bytes) -> Array:
    reason: Exception | None = None
    for way in ways:
        try:
            return way(data)
        except MemoryError as err:
            raise Undecodable("the frame needs more memory than is allowed") from err
        except Exception as err:  # noqa: BLE001  every codec has its own errors, often bare RuntimeError
            reason = err
    raise Undecodable("the compressed frame cannot be decoded") from reason


def _jpeg8(head: Codestream, wanted: Wanted) -> Iterator[Way]:
    # The decoder shall transform what is subsampled, and YCbCr that the data set calls RGB.
    is_ybr = head.color == "YBR" if wanted.photometric == "RGB" else wanted.photometric in _SUBSAMPLED
    transform = wanted.samples == 3 and is_ybr and head.color != "RGB"
    if (imagecodecs := _optional("imagecodecs")) is not None:
        if wanted.samples == 3:
            spaces = ("YCBCR", "RGB") if transform else ("YCBCR", "YCBCR")
            yield lambda data: imagecodecs.jpeg8_decode(data, colorspace=spaces[0], outcolorspace=spaces[1])
        else:
            yield imagecodecs.jpeg8_decode
    if head.precision == 8 and _optional("PIL.Image") is not None:
        yield lambda data: _pillow_jpeg(data, wanted, head.color, transform)
    if (libjpeg := _optional("libjpeg")) is not None:
        yield lambda data: libjpeg.decode(data, colour_transform=1 if transform else 0)


def _pillow_jpeg(data: bytes, wanted: Wanted, color: str, transform: bool) -> Array:
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        if wanted.samples == 3 and not transform and color != "RGB":
            # Without an Adobe marker pillow takes the samples for YCbCr, and leaves YCbCr alone when asked for it.
            if "adobe_transform" in image.info and not image.info["adobe_transform"]:
                image.draft("RGB", image.size)
            else:
                image.draft("YCbCr", image.size)
        return np.asarray(image)


def _jpeg_lossless(head: Codestream, wanted: Wanted) -> Iterator[Way]:
    if (imagecodecs := _optional("imagecodecs")) is not None:
        yield imagecodecs.jpegsof3_decode
    if (libjpeg := _optional("libjpeg")) is not None:
        yield lambda data: libjpeg.decode(data, colour_transform=0)


def _jpeg_ls(head: Codestream, wanted: Wanted) -> Iterator[Way]:
    if (imagecodecs := _optional("imagecodecs")) is not None:
        yield imagecodecs.jpegls_decode
    if (libjpeg := _optional("libjpeg")) is not None:
        yield lambda data: libjpeg.decode(data, colour_transform=0)


def _jpeg_2000(head: Codestream, wanted: Wanted) -> Iterator[Way]:
    if (imagecodecs := _optional("imagecodecs")) is not None:
        yield imagecodecs.jpeg2k_decode
    if (openjpeg := _optional("openjpeg")) is not None:
        yield openjpeg.decode


def _htj2k(head: Codestream, wanted: Wanted) -> Iterator[Way]:
    imagecodecs = _optional("imagecodecs")
    if imagecodecs is not None and getattr(imagecodecs.HTJ2K, "available", False):
        # Without being told, it gives planes when there is no component transform.
        yield lambda data: imagecodecs.htj2k_decode(data, planar=False)
    yield from _jpeg_2000(head, wanted)


_WAYS: dict[str, Callable[[Codestream, Wanted], Iterator[Way]]] = {
    "jpeg": _jpeg8,
    "jpeg-lossless": _jpeg_lossless,
    "jpeg-ls": _jpeg_ls,
    "jpeg-2000": _jpeg_2000,
    "htj2k": _htj2k,
}


def _optional(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
