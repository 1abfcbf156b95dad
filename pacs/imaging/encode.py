"""Arrays to codestreams: which images a transfer syntax can hold (PS3.5 8.2), and which encoder makes it.

imagecodecs first; where there is another way in, frames are encoded without it. Codecs are imported when first needed.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import log10
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pacs import __version__
from pacs.dicom.transfer_syntax import (
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    RLE_LOSSLESS,
)
from pacs.errors import NotAcceptable
from pacs.imaging import rle
from pacs.imaging.frames import Image

Array = NDArray[Any]

LOSSLESS = (
    JPEG_2000_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    HTJ2K_LOSSLESS,
    JPEG_LS_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    RLE_LOSSLESS,
)
LOSSY = (JPEG_BASELINE, JPEG_2000, JPEG_LS_NEAR_LOSSLESS)

# Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1).
LOSSY_METHODS = {JPEG_BASELINE: "ISO_10918_1", JPEG_2000: "ISO_15444_1", JPEG_LS_NEAR_LOSSLESS: "ISO_14495_1"}

_JPEG_QUALITY = 90
_NEAR = 2  # most that a sample of near-lossless JPEG-LS may differ by
# Lossy JPEG 2000: root of the mean squared error, as a part of the range that the frame's samples have.
_PART_OF_RANGE = 1 / 256

# Any of these makes it.
_MAKERS = {
    JPEG_BASELINE: ("imagecodecs", "PIL"),
    JPEG_LOSSLESS_SV1: ("imagecodecs",),
    JPEG_LS_LOSSLESS: ("imagecodecs", "jpeg_ls"),
    JPEG_LS_NEAR_LOSSLESS: ("imagecodecs", "jpeg_ls"),
    JPEG_2000_LOSSLESS: ("imagecodecs", "openjpeg"),
    JPEG_2000: ("imagecodecs", "openjpeg"),
    HTJ2K_LOSSLESS: ("imagecodecs",),
    HTJ2K_LOSSLESS_RPCL: ("imagecodecs",),
}
# What a codestream's bytes depend on besides the pixels.
_PACKAGES = ("imagecodecs", "pillow", "pyjpegls", "pylibjpeg-openjpeg")

_openjpeg_lock = threading.Lock()  # two threads in its encoder crash the process


def can_hold(transfer_syntax_uid: str, image: Image, photometric: str) -> bool:
    """Whether frames can be made in this transfer syntax.

    photometric: Photometric Interpretation of the decoded frames. False for what the tables of PS3.5 8.2 leave out:
    single bits, floating point, more than 16 bits, colour spaces other than RGB and YBR_FULL.
    """
    if transfer_syntax_uid not in (*LOSSLESS, *LOSSY) or not _has_maker(transfer_syntax_uid):
        return False
    if image.kind == "f" or image.bits_allocated not in (8, 16):
        return False
    if image.samples != 1 and (image.samples != 3 or photometric not in ("RGB", "YBR_FULL")):
        return False
    if transfer_syntax_uid in LOSSY and photometric == "PALETTE COLOR":
        return False  # neighbouring indices are not neighbouring colours
    if transfer_syntax_uid == JPEG_BASELINE:
        return image.bits_allocated == 8 and image.kind == "u"
    return True


def photometric_of(transfer_syntax_uid: str, photometric: str) -> str:
    """Photometric Interpretation of what is made out of frames that have ``photometric`` (PS3.5 8.2)."""
    if photometric == "RGB":
        in_rgb = {
            JPEG_BASELINE: "YBR_FULL_422",
            JPEG_2000_LOSSLESS: "YBR_RCT",
            JPEG_2000: "YBR_ICT",
            HTJ2K_LOSSLESS: "YBR_RCT",
            HTJ2K_LOSSLESS_RPCL: "YBR_RCT",
        }
        return in_rgb.get(transfer_syntax_uid, "RGB")
    if photometric == "YBR_FULL" and transfer_syntax_uid == JPEG_BASELINE:
        return "YBR_FULL_422"
    return photometric


@cache
def maker() -> str:
    """What encodes here, with versions: another one may make other bytes of the same pixels."""
    versions = [f"pacs {__version__}"]
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions.append(f"{package} {version(package)}")
    return ", ".join(versions)


def encode(transfer_syntax_uid: str, array: Array, image: Image, photometric: str) -> bytes:
    """One frame, (rows, columns, samples), as a codestream or RLE frame.

    photometric: what the array has. Raises NotAcceptable when it cannot be made.
    """
    if not can_hold(transfer_syntax_uid, image, photometric):
        raise NotAcceptable("the pixels cannot be made in this transfer syntax")
    precision = _precision(array, image)
    if transfer_syntax_uid in LOSSY and precision > image.bits_stored:
        raise NotAcceptable("the pixels have bits beyond Bits Stored, which lossy compression would not keep")
    samples = np.ascontiguousarray(array[..., 0] if image.samples == 1 else array)
    frame = _Frame(samples, precision, photometric if image.samples == 3 else "")
    reason: Exception | None = None
    for way in _WAYS[transfer_syntax_uid](frame):
        try:
            return bytes(way())
        except MemoryError:
            raise
        except Exception as err:  # noqa: BLE001  every codec has its own errors, often bare RuntimeError
            reason = err
    raise NotAcceptable("no encoder makes this transfer syntax of these pixels") from reason


@dataclass(frozen=True, slots=True)
class _Frame:
    """samples: (rows, columns) or (rows, columns, 3). color: "RGB", "YBR_FULL", "" for one sample a pixel."""

    samples: Array
    precision: int
    color: str

    @property
    def is_signed(self) -> bool:
        return self.samples.dtype.kind == "i"

    @property
    def unsigned(self) -> tuple[Array, int]:
        """For codecs without sign: two's complement in all bits, so that decoders need to know of no sign either."""
        if not self.is_signed:
            return self.samples, self.precision
        bits = self.samples.dtype.itemsize * 8
        return self.samples.view(f"u{bits // 8}"), bits


# A generator imports only what it comes to; each yields ways to make the frame, best first.
_Ways = Iterator[Callable[[], bytes]]


def _precision(array: Array, image: Image) -> int:
    """Bits Stored where all samples keep to it, else Bits Allocated: overlays of old lie in the bits above."""
    bits = image.bits_stored
    if bits == image.bits_allocated or image.high_bit != bits - 1:
        return image.bits_allocated
    low, high = int(array.min()), int(array.max())
    if image.kind == "i":
        return bits if -(1 << (bits - 1)) <= low and high < 1 << (bits - 1) else image.bits_allocated
    return bits if high < 1 << bits else image.bits_allocated


def _rle(frame: _Frame) -> _Ways:
    if (imagecodecs := _optional("imagecodecs")) is not None:
        yield lambda: rle.encode_frame(frame.samples, lambda plane: imagecodecs.packbits_encode(plane, axis=-1))
    yield lambda: rle.encode_frame(frame.samples, rle.pack)


def _jpeg_baseline(frame: _Frame) -> _Ways:
    space = "RGB" if frame.color == "RGB" else "YCBCR"
    if (imagecodecs := _optional("imagecodecs")) is not None:
        color = {"colorspace": space, "outcolorspace": "YCBCR", "subsampling": "422"} if frame.color else {}
        yield lambda: imagecodecs.jpeg8_encode(frame.samples, level=_JPEG_QUALITY, **color)
    if _optional("PIL.Image") is not None:
        yield lambda: _pillow_jpeg(frame, {"RGB": "RGB", "": "L"}.get(frame.color, "YCbCr"))


def _pillow_jpeg(frame: _Frame, mode: str) -> bytes:
    from PIL import Image as Pictures

    out = io.BytesIO()
    rows, columns = frame.samples.shape[:2]
    picture = Pictures.frombytes(mode, (columns, rows), frame.samples.tobytes())
    picture.save(out, "JPEG", quality=_JPEG_QUALITY, subsampling="4:2:2")
    return out.getvalue()


def _jpeg_lossless(frame: _Frame) -> _Ways:
    samples, precision = frame.unsigned
    if (imagecodecs := _optional("imagecodecs")) is not None:
        # Told of YCbCr it uses a second Huffman table, which DCMTK and libjpeg read otherwise. Nothing is converted;
        # colours are for the data set to tell.
        color = {"colorspace": "UNKNOWN", "outcolorspace": "UNKNOWN"} if frame.color else {}
        precision = max(2, precision)
        yield lambda: imagecodecs.jpeg8_encode(samples, lossless=True, predictor=1, bitspersample=precision, **color)


def _jpeg_ls(frame: _Frame, near: int = 0) -> _Ways:
    samples, precision = frame.unsigned
    if precision < 8 and not near:
        precision = 8  # DCMTK does not read fewer
    if (jpeg_ls := _optional("jpeg_ls")) is not None:  # it alone takes the precision from us
        rows, columns = samples.shape[:2]
        described = {"samples_per_pixel": 3, "interleave_mode": 2} if frame.color else {"samples_per_pixel": 1}
        yield lambda: jpeg_ls.encode_pixel_data(
            samples.tobytes(),
            lossy_error=near,
            rows=rows,
            columns=columns,
            bits_stored=max(2, precision),
            **{"interleave_mode": 0, **described},
        )
    # Near-lossless, samples could grow past Bits Stored.
    if (not near or precision in (8, 16)) and (imagecodecs := _optional("imagecodecs")) is not None:
        yield lambda: imagecodecs.jpegls_encode(samples, level=near)


def _jpeg_ls_near(frame: _Frame) -> _Ways:
    return _jpeg_ls(frame, _NEAR)


def _jpeg_2000(frame: _Frame, decibels: float = 0) -> _Ways:
    is_rgb = frame.color == "RGB"
    if (imagecodecs := _optional("imagecodecs")) is not None:
        yield lambda: imagecodecs.jpeg2k_encode(
            frame.samples,
            level=decibels,
            codecformat="J2K",
            bitspersample=frame.precision,
            reversible=not decibels,
            resolutions=_resolutions(frame),
            mct=is_rgb,
            numthreads=1,
        )
    if (openjpeg := _optional("openjpeg.utils")) is not None:

        def make() -> bytes:
            with _openjpeg_lock:
                made: bytes = openjpeg.encode_array(
                    frame.samples,
                    bits_stored=frame.precision,
                    photometric_interpretation={"RGB": 1, "": 2}.get(frame.color, 3),
                    use_mct=is_rgb,
                    signal_noise_ratios=[decibels] if decibels else None,
                )
                return made

        yield make


def _jpeg_2000_lossy(frame: _Frame) -> _Ways:
    spread = max(1, int(frame.samples.max()) - int(frame.samples.min()))
    error = max(0.5, spread * _PART_OF_RANGE)
    return _jpeg_2000(frame, 20 * log10(((1 << frame.precision) - 1) / error))


def _resolutions(frame: _Frame) -> int:
    """As many as the customary six, as far as the smallest still has pixels."""
    return max(1, min(6, int(min(frame.samples.shape[:2])).bit_length()))


def _htj2k(frame: _Frame) -> _Ways:
    imagecodecs = _optional("imagecodecs")
    if imagecodecs is not None and getattr(imagecodecs.HTJ2K, "available", False):
        yield lambda: _with_precision(imagecodecs, frame)


def _with_precision(imagecodecs: ModuleType, frame: _Frame) -> bytes:
    """imagecodecs writes 8 or 16 bits, in RPCL order and with TLM markers.

    Fewer bits need another SIZ marker segment only (ISO/IEC 15444-1 A.5.1): reversible coding is of integers, shifted
    to be around zero when unsigned, which signed samples are already. The smallest resolution has at most 64 pixels a
    side, as the RPCL options want (PS3.5 8.2.14).
    """
    bits = frame.samples.dtype.itemsize * 8
    samples = frame.samples
    if frame.precision < bits and not frame.is_signed:
        samples = (samples.astype(np.int32) - (1 << (frame.precision - 1))).astype(f"i{bits // 8}")
    made = bytearray(
        imagecodecs.htj2k_encode(
            samples, reversible=True, tlm=True, rgb=frame.color == "RGB", resolutions=_decompositions(frame)
        )
    )
    if frame.precision < bits:
        siz = made.index(b"\xff\x51")
        for component in range(3 if frame.color else 1):
            made[siz + 40 + 3 * component] = (0x80 if frame.is_signed else 0) | (frame.precision - 1)
    return bytes(made)


def _decompositions(frame: _Frame) -> int:
    """The customary five, or what brings the longer side down to 64 pixels."""
    longer = int(max(frame.samples.shape[:2]))
    return max(5, ((longer - 1) // 64).bit_length())


_WAYS: dict[str, Callable[[_Frame], _Ways]] = {
    RLE_LOSSLESS: _rle,
    JPEG_BASELINE: _jpeg_baseline,
    JPEG_LOSSLESS_SV1: _jpeg_lossless,
    JPEG_LS_LOSSLESS: _jpeg_ls,
    JPEG_LS_NEAR_LOSSLESS: _jpeg_ls_near,
    JPEG_2000_LOSSLESS: _jpeg_2000,
    JPEG_2000: _jpeg_2000_lossy,
    HTJ2K_LOSSLESS: _htj2k,
    HTJ2K_LOSSLESS_RPCL: _htj2k,
}


@cache
def _has_maker(transfer_syntax_uid: str) -> bool:
    makers = _MAKERS.get(transfer_syntax_uid)
    return makers is None or any(find_spec(name) is not None for name in makers)


def _optional(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except ImportError:
        return None
