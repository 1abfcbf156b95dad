"""Which transfer syntax a bare codestream is of, and what it says about the image (PS3.5 Annex A.4, PS3.18 10.5.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pacs.dicom import transfer_syntax as syntaxes
from pacs.errors import Undecodable
from pacs.imaging import codestream
from pacs.imaging.codestream import Codestream

HEADER_BYTES = 4 << 20  # what ``identify`` needs of a frame: colour profiles of a few MB are met

_J2K_MARKS = {"COD": 0x52, "CAP": 0x50, "SOT": 0x90, "SOD": 0x93}
_BY_SOF = {0xC0: syntaxes.JPEG_BASELINE, 0xC1: syntaxes.JPEG_EXTENDED}


@dataclass(frozen=True, slots=True)
class Identified:
    """transfer_syntax_uid: that the codestream is of. photometric: what fits its components."""

    transfer_syntax_uid: str
    photometric: str
    codestream: Codestream


def identify(media_type: str, head: bytes) -> Identified:
    """head: the beginning of a frame, ``HEADER_BYTES`` or all of it. Raises Undecodable when it is not of the type."""
    if media_type in ("image/jpeg", "image/jls"):
        found = _jpeg(head)
    elif media_type in ("image/jp2", "image/jpx", "image/jphc"):
        found = _jpeg2000(head, is_part2=media_type == "image/jpx")
    else:
        raise Undecodable(f"{media_type[:40]} says nothing of its transfer syntax")
    is_jpeg_ls = found.transfer_syntax_uid in (syntaxes.JPEG_LS_LOSSLESS, syntaxes.JPEG_LS_NEAR_LOSSLESS)
    if is_jpeg_ls != (media_type == "image/jls"):
        raise Undecodable(f"the data are not {media_type}")
    return found


def _jpeg(head: bytes) -> Identified:
    found = codestream.jpeg(head)
    frame, sampling, scan = 0, b"", b""
    for marker, segment in _segments(head, found.offset + 2):
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            frame, sampling = marker, segment[7::3]
        elif marker == 0xDA:
            scan = segment
    if not scan or len(scan) < 4 + 2 * scan[0]:
        raise Undecodable("the JPEG codestream has no scan")
    first_of_three = scan[1 + 2 * scan[0]]  # Ss: the predictor of lossless JPEG, NEAR of JPEG-LS
    if frame == 0xF7:
        uid = syntaxes.JPEG_LS_NEAR_LOSSLESS if first_of_three else syntaxes.JPEG_LS_LOSSLESS
    elif frame == 0xC3:
        uid = syntaxes.JPEG_LOSSLESS_SV1 if first_of_three == 1 else syntaxes.JPEG_LOSSLESS
    elif frame in _BY_SOF:
        uid = _BY_SOF[frame]
    else:
        raise Undecodable("no transfer syntax is there for this process of JPEG")
    if found.components == 1:
        return Identified(uid, "MONOCHROME2", found)
    if found.color == "RGB" or (not found.color and uid not in _BY_SOF.values()):
        return Identified(uid, "RGB", found)
    is_subsampled = len(set(sampling)) > 1
    return Identified(uid, "YBR_FULL_422" if is_subsampled else "YBR_FULL", found)


def _jpeg2000(head: bytes, *, is_part2: bool) -> Identified:
    found = codestream.jpeg2000(head)
    style, high_throughput = b"", False
    for marker, segment in _segments(head, found.offset + 2):
        if marker == _J2K_MARKS["COD"]:
            style = segment
        elif marker == _J2K_MARKS["CAP"]:
            high_throughput = True
    if len(style) < 10:
        raise Undecodable("the JPEG 2000 codestream has no coding style")
    # Scod, progression, layers (2), multiple component transformation, levels, block width, height, style, wavelet
    has_components, is_reversible = bool(style[4]), style[9] == 1
    if high_throughput or style[8] & 0x40:
        uid = syntaxes.HTJ2K_LOSSLESS if is_reversible else syntaxes.HTJ2K
    elif is_part2:
        uid = "1.2.840.10008.1.2.4.92" if is_reversible else "1.2.840.10008.1.2.4.93"
    else:
        uid = syntaxes.JPEG_2000_LOSSLESS if is_reversible else syntaxes.JPEG_2000
    if found.components == 1:
        return Identified(uid, "MONOCHROME2", found)
    color = ("YBR_RCT" if is_reversible else "YBR_ICT") if has_components else "RGB"
    return Identified(uid, color, found)


def _segments(head: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of marker segments up to the first scan or tile."""
    while offset + 4 <= len(head) and head[offset] == 0xFF:
        marker = head[offset + 1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:
            offset += 1 if marker == 0xFF else 2
            continue
        if marker in (_J2K_MARKS["SOT"], _J2K_MARKS["SOD"]):
            return
        length = int.from_bytes(head[offset + 2 : offset + 4], "big")
        if length < 2:
            return
        yield marker, head[offset + 4 : offset + 2 + length]
        if marker == 0xDA:
            return
        offset += 2 + length
