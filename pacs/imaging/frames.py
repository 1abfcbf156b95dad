"""Frames of one instance as arrays and as native bytes, whatever the transfer syntax."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pacs.dicom import transfer_syntax
from pacs.dicom.layout import PixelLayout, Span
from pacs.errors import NotFound, Undecodable
from pacs.imaging import codecs
from pacs.imaging.source import Reader, Source

Array = NDArray[Any]

_FLOAT_PIXELS = {"7FE00008": "f", "7FE00009": "f"}
_ALLOCATED = (1, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Image:
    """Image Pixel Module (PS3.3 C.7.6.3). kind: "u", "i" or "f". subsampled: native YBR_FULL_422 or YBR_PARTIAL_422."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    kind: str
    photometric: str
    planar: bool
    subsampled: bool = False
    big_endian: bool = False
    swapped_bytes: bool = False  # 8 bits allocated, as big endian words

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of one sample as it lies in the file; unsigned bytes for single bits."""
        if self.bits_allocated == 1:
            return np.dtype(np.uint8)
        return np.dtype(f"{'>' if self.big_endian else '<'}{self.kind}{self.bits_allocated // 8}")

    @property
    def frame_bits(self) -> int:
        """Of one native frame; frames follow each other without padding (PS3.5 8.1.1)."""
        samples = 2 if self.subsampled else self.samples
        return self.rows * self.columns * samples * self.bits_allocated

    @property
    def wanted(self) -> codecs.Wanted:
        """What a decoder is told."""
        return codecs.Wanted(
            self.rows,
            self.columns,
            self.samples,
            self.bits_allocated,
            self.kind == "i",
            self.photometric,
            self.planar,
        )


def pixels_of(source: Source) -> PixelLayout:
    """Raises NotFound when the instance has no pixel data."""
    if source.layout.pixels is None:
        raise NotFound("the instance has no pixel data")
    return source.layout.pixels


def image_of(source: Source) -> Image:
    """What the data set says of its pixels. Raises NotFound without pixel data, Undecodable when it makes no sense."""
    pixels = pixels_of(source)
    syntax = transfer_syntax.find(source.transfer_syntax_uid)
    kind = _FLOAT_PIXELS.get(pixels.tag) or ("i" if source.number("00280103", 0) == 1 else "u")
    allocated = {"7FE00008": 32, "7FE00009": 64}.get(pixels.tag) or source.number("00280100", 0)
    stored = source.number("00280101", allocated)
    image = Image(
        rows=source.number("00280010", 0),
        columns=source.number("00280011", 0),
        samples=source.number("00280002", 1),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=source.number("00280102", stored - 1),
        kind=kind,
        photometric=str(source.value("00280004", "MONOCHROME2")).strip(),
        planar=source.number("00280006", 0) == 1,
        big_endian=syntax.big_endian,
        swapped_bytes=syntax.big_endian and allocated <= 8 and source.attributes.get(pixels.tag, {}).get("vr") == "OW",
    )
    if not (0 < image.rows < 65536 and 0 < image.columns < 65536 and 0 < image.samples < 16):
        raise Undecodable("Rows, Columns or Samples per Pixel are missing or wrong")
    if allocated not in _ALLOCATED:
        raise Undecodable(f"{allocated} bits allocated are not decoded")
    if not 0 < stored <= allocated or not stored - 1 <= image.high_bit < allocated:
        # Decoders and viewers agree to take the whole sample when these attributes cannot be right.
        image = replace(image, bits_stored=allocated, high_bit=allocated - 1)
    if not pixels.encapsulated and image.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422") and image.samples == 3:
        # Met in the field: the label is left over from a JPEG, the samples are all there.
        full = image.frame_bits * max(1, source.number("00280008", 1) if _is_count(source) else 1) // 8
        image = replace(image, subsampled=image.columns % 2 == 0 and pixels.value.length < full)
    return image


def stored_frame(source: Source, reader: Reader, number: int) -> bytes:
    """The codestream of one frame of encapsulated pixel data, its fragments joined. number: from 1."""
    pixels = pixels_of(source)
    _check(pixels, number)
    if number > len(pixels.frames):
        raise Undecodable("the frame's codestream is not there")
    pieces = [reader.read(fragment) for fragment in pixels.frames[number - 1]]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def native_bytes(source: Source, reader: Reader, image: Image, number: int, *, lenient: bool = False) -> bytes:
    """One frame of native pixel data as little endian; single bits start at the first bit of the first byte.

    lenient: what is missing of a truncated frame is zeros. Raises Undecodable when the frame is not all there.
    """
    pixels = pixels_of(source)
    _check(pixels, number)
    first_bit = (number - 1) * image.frame_bits
    start, end = first_bit // 8, (first_bit + image.frame_bits + 7) // 8
    if image.frame_bits // 8 > codecs.MAX_FRAME_BYTES:
        raise Undecodable("the frame is larger than is decoded here")
    # Words are swapped as they lie in the whole value, so begin and end with one.
    unit = 2 if image.swapped_bytes else 1
    skip, tail = start % unit, end % unit
    here = max(0, min(end + tail, pixels.value.length) - (start - skip))
    if here < end - start and not lenient:
        raise Undecodable("the pixel data end before the frame does")
    data = reader.read(Span(pixels.value.offset + start - skip, here)) if here else b""
    if image.big_endian:
        data = little_endian(data, 2 if image.swapped_bytes else max(1, image.bits_allocated // 8))
    data = data[skip : skip + end - start]
    data += bytes(end - start - len(data))
    if image.bits_allocated == 1 and (first_bit % 8 or image.frame_bits % 8):
        return _aligned(data, first_bit % 8, image.frame_bits)
    return data


def little_endian(data: bytes, size: int) -> bytes:
    """Byte order of each ``size`` bytes turned round; an incomplete rest stays."""
    if size == 1:
        return data
    whole = len(data) // size * size
    return np.frombuffer(data, f">u{size}", whole // size).astype(f"<u{size}").tobytes() + data[whole:]


def frame_array(
    source: Source, reader: Reader, image: Image, number: int, *, lenient: bool = False
) -> tuple[Array, str]:
    """One frame as (rows, columns, samples), little endian, chroma at full resolution, single bits as 0 and 1.

    The second value is the Photometric Interpretation that the array has. Raises NotFound, Undecodable.
    """
    if pixels_of(source).encapsulated:
        return codecs.decode(source.transfer_syntax_uid, stored_frame(source, reader, number), image.wanted)
    raw = native_bytes(source, reader, image, number, lenient=lenient)
    if image.bits_allocated == 1:
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
        return bits[: image.frame_bits].reshape(image.rows, image.columns, image.samples), image.photometric
    flat = np.frombuffer(raw, image.dtype.newbyteorder("<"))
    if image.subsampled:
        return _full_chroma(flat, image), image.photometric.replace("_422", "")
    if image.planar and image.samples > 1:
        planes = flat.reshape(image.samples, image.rows, image.columns)
        return np.moveaxis(planes, 0, 2), image.photometric
    return flat.reshape(image.rows, image.columns, image.samples), image.photometric


def expected_photometric(source: Source, image: Image) -> str:
    """What ``frame_array`` gives, as far as the data set alone can tell."""
    if pixels_of(source).encapsulated:
        return codecs.expected_photometric(source.transfer_syntax_uid, image.photometric)
    return "YBR_FULL" if image.photometric == "YBR_FULL_422" else image.photometric


def packed(array: Array, image: Image, planar: bool) -> bytes:
    """(rows, columns, samples) as native bytes, by plane or by pixel."""
    if image.bits_allocated == 1:
        return np.packbits(array.reshape(-1), bitorder="little").tobytes()
    return np.moveaxis(array, 2, 0).tobytes() if planar and array.shape[2] > 1 else array.tobytes()


def _full_chroma(flat: Array, image: Image) -> Array:
    """Y1 Y2 Cb Cr of two pixels beside each other (PS3.3 C.7.6.3.1.2) to Y Cb Cr of each."""
    pairs = flat.reshape(image.rows, image.columns // 2, 4)
    out = np.empty((image.rows, image.columns, 3), flat.dtype)
    out[:, 0::2, 0], out[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    out[:, :, 1] = np.repeat(pairs[..., 2], 2, axis=1)
    out[:, :, 2] = np.repeat(pairs[..., 3], 2, axis=1)
    return out


def _aligned(data: bytes, skip: int, count: int) -> bytes:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    return np.packbits(bits[skip : skip + count], bitorder="little").tobytes()


def _is_count(source: Source) -> bool:
    return str(source.value("00280008", "")).strip().isdigit()


def _check(pixels: PixelLayout, number: int) -> None:
    if not 1 <= number <= pixels.number_of_frames:
        raise NotFound(f"there is no frame {number}: the instance has {pixels.number_of_frames}")
