"""RLE of PS3.5 Annex G, without imagecodecs."""

from __future__ import annotations

from itertools import pairwise

from pacs.errors import Undecodable


def decode_frame(data: bytes, segment_bytes: int, segments: int) -> list[bytearray]:
    """The byte planes of one frame, most significant byte of each sample first (G.2).

    segment_bytes: length of each plane (rows × columns); segments: how many there must be. Raises Undecodable for a
    header that cannot be right, and for a plane that ends early.
    """
    planes = [unpack(data[start:end], segment_bytes) for start, end in segment_bounds(data, segments)]
    if any(len(plane) < segment_bytes for plane in planes):
        raise Undecodable("an RLE segment ends before its plane is full")
    return planes


def segment_bounds(data: bytes, segments: int) -> list[tuple[int, int]]:
    """Start and end of each segment. Raises Undecodable for a header that cannot be right."""
    if len(data) < 64:
        raise Undecodable("the RLE frame is shorter than its header")
    numbers = [int.from_bytes(data[at : at + 4], "little") for at in range(0, 64, 4)]
    if numbers[0] != segments:
        raise Undecodable(f"the RLE frame has {numbers[0]} segments, {segments} expected")
    starts = [*numbers[1 : segments + 1], len(data)]
    if starts[0] < 64 or any(high < low for low, high in pairwise(starts)):
        raise Undecodable("the RLE frame's segment offsets are wrong")
    return list(pairwise(starts))


def unpack(segment: bytes, size: int) -> bytearray:
    """PackBits (G.3.2), cut after ``size`` bytes."""
    out = bytearray()
    at, end = 0, len(segment)
    while at < end and len(out) < size:
        control = segment[at]
        if control < 128:
            out += segment[at + 1 : at + 2 + control]
            at += 2 + control
        elif control > 128:
            out += segment[at + 1 : at + 2] * (257 - control)
            at += 2
        else:
            at += 1
    del out[size:]
    return out
