"""What a compressed frame says of itself, read before any decoder is trusted with it."""

from __future__ import annotations

from dataclasses import dataclass

from pacs.errors import Undecodable

_SOI, _SOS, _APP0, _APP14 = 0xD8, 0xDA, 0xE0, 0xEE
_NOT_A_FRAME_HEADER = (0xC4, 0xC8, 0xCC)
_JPEG_LS = 0xF7
_STANDALONE = (0x01, *range(0xD0, 0xD9))


@dataclass(frozen=True, slots=True)
class Codestream:
    """color: "RGB" or "YBR" when the codestream tells, else "". offset: where the codestream begins in the data."""

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool = False
    color: str = ""
    offset: int = 0


def jpeg(data: bytes) -> Codestream:
    """Frame header of JPEG (ISO/IEC 10918-1 B.2.2) or JPEG-LS. Raises Undecodable when there is none."""
    start = data.find(b"\xff\xd8\xff", 0, 4096)
    if start < 0:
        raise Undecodable("the frame is not a JPEG codestream")
    try:
        return _jpeg(data, start)
    except IndexError as err:
        raise Undecodable("the JPEG codestream ends in its header") from err


def jpeg2000(data: bytes) -> Codestream:
    """SIZ marker segment (ISO/IEC 15444-1 A.5.1). Raises Undecodable when there is none."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # a JP2 box structure before it is not allowed, and is met
    if start < 0 or len(data) < start + 45:
        raise Undecodable("the frame is not a JPEG 2000 codestream")

    def number(offset: int, size: int = 4) -> int:
        return int.from_bytes(data[start + offset : start + offset + size], "big")

    precision = data[start + 42]
    return Codestream(
        rows=number(12) - number(20),
        columns=number(8) - number(16),
        components=number(40, 2),
        precision=(precision & 0x7F) + 1,
        signed=bool(precision & 0x80),
        offset=start,
    )


def _jpeg(data: bytes, start: int) -> Codestream:
    offset, adobe, jfif = start + 2, None, False
    while True:
        if data[offset] != 0xFF:
            raise Undecodable("the JPEG codestream is damaged before its frame header")
        marker = data[offset + 1]
        if marker == 0xFF:  # fill byte
            offset += 1
            continue
        if marker in _STANDALONE:
            offset += 2
            continue
        length = int.from_bytes(data[offset + 2 : offset + 4], "big")
        segment = data[offset + 4 : offset + 2 + length]
        if marker == _APP14 and segment.startswith(b"Adobe") and len(segment) >= 12:
            adobe = segment[11]
        elif marker == _APP0 and segment.startswith(b"JFIF"):
            jfif = True
        elif marker == _SOS or length < 2:
            raise Undecodable("the JPEG codestream has no frame header")
        elif marker == _JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in _NOT_A_FRAME_HEADER):
            break
        offset += 2 + length
    components = segment[5]
    ids = bytes(segment[6 + 3 * index] for index in range(components))
    return Codestream(
        rows=int.from_bytes(segment[1:3], "big"),
        columns=int.from_bytes(segment[3:5], "big"),
        components=components,
        precision=segment[0],
        color=_color(ids, adobe, jfif) if marker != _JPEG_LS else "",
        offset=start,
    )


def _color(ids: bytes, adobe: int | None, jfif: bool) -> str:
    if len(ids) != 3:
        return ""
    if ids in (b"RGB", b"rgb"):
        return "RGB"
    if adobe is not None:
        return "YBR" if adobe else "RGB"
    return "YBR" if jfif else ""
