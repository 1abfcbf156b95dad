"""RLE of PS3.5 Annex G, without imagecodecs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from struct import pack as pack_numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def encode_frame(samples: NDArray[Any], pack_plane: Callable[[NDArray[np.uint8]], bytes]) -> bytes:
    """(rows, columns) or (rows, columns, samples) of whole bytes as an RLE frame (G.4, G.5).

    pack_plane: PackBits of (rows, columns), each row by itself (``pack``, or a faster one).
    """
    rows, columns = samples.shape[:2]
    size = samples.dtype.itemsize
    planes = np.ascontiguousarray(samples).view(np.uint8).reshape(rows, columns, -1, size)
    segments = []
    for sample in range(planes.shape[2]):
        for byte in reversed(range(size)):
            segment = pack_plane(np.ascontiguousarray(planes[:, :, sample, byte]))
            segments.append(segment + b"\0" * (len(segment) % 2))
    starts = accumulate((len(segment) for segment in segments[:-1]), initial=64)
    header = pack_numbers(f"<{len(segments) + 1}L", len(segments), *starts).ljust(64, b"\0")
    return header + b"".join(segments)


def pack(plane: NDArray[np.uint8]) -> bytes:
    """PackBits of each row (G.3.1), without imagecodecs."""
    return b"".join(_packed_row(row) for row in plane)


def _packed_row(row: NDArray[np.uint8]) -> bytes:
    edges = np.flatnonzero(np.diff(row)) + 1
    out, literal = bytearray(), bytearray()

    def end_literal() -> None:
        for at in range(0, len(literal), 128):
            piece = literal[at : at + 128]
            out.append(len(piece) - 1)
            out.extend(piece)
        literal.clear()

    for start, end in pairwise([0, *edges.tolist(), len(row)]):
        value, left = int(row[start]), end - start
        while left > 2:
            end_literal()
            run = min(left, 128)
            out += bytes((257 - run, value))
            left -= run
        literal += bytes((value,)) * left
    end_literal()
    return bytes(out)
