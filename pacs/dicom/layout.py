"""Where bulk data and frames lie in a stored file, so that they are read by offset and never searched for.

All offsets count bytes from the start of the stored Part 10 file. For a data set in Deflated Explicit VR Little
Endian (PS3.5 A.5) they count from the start of the *inflated* data set instead, and ``deflated`` is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import orjson


class Span(NamedTuple):
    """A run of bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """Pixel Data (7FE0,0010), Float (7FE0,0008) or Double Float Pixel Data (7FE0,0009) of the top-level data set.

    value: the element's value; for encapsulated data from the Basic Offset Table's item to before the sequence
    delimiter. number_of_frames: as many as can be served (≥ 1), what the data say when Number of Frames disagrees.
    frame_length: bytes of one native frame (0 when encapsulated, or when frames do not start on a byte).
    frames: encapsulated only; the fragments of each frame, without item headers.
    """

    tag: str
    value: Span
    encapsulated: bool
    number_of_frames: int
    frame_length: int = 0
    frames: tuple[tuple[Span, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """bulk: path ("00420011", or "54000100/1/54001010" with items counted from 1) → span of that value."""

    pixels: PixelLayout | None = None
    bulk: Mapping[str, Span] = field(default_factory=dict)
    deflated: bool = False

    def shifted(self, by: int) -> Layout:
        """The same layout when ``by`` bytes (file meta information) are put before the data set."""
        if self.deflated or by == 0:
            return self

        def moved(span: Span) -> Span:
            return Span(span.offset + by, span.length)

        pixels = self.pixels and replace(
            self.pixels,
            value=moved(self.pixels.value),
            frames=tuple(tuple(moved(fragment) for fragment in frame) for frame in self.pixels.frames),
        )
        return Layout(pixels, {path: moved(span) for path, span in self.bulk.items()}, self.deflated)

    def to_bytes(self) -> bytes:
        """A compact form for the index; ``from_bytes`` reads it."""
        pixels = self.pixels
        return orjson.dumps(
            {
                "bulk": {path: [span.offset, span.length] for path, span in self.bulk.items()},
                "deflated": self.deflated,
                "pixels": pixels
                and [
                    pixels.tag,
                    [pixels.value.offset, pixels.value.length],
                    pixels.encapsulated,
                    pixels.number_of_frames,
                    pixels.frame_length,
                    [[number for span in frame for number in span] for frame in pixels.frames],
                ],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Layout:
        raw = orjson.loads(data)
        pixels = None
        if raw["pixels"]:
            tag, value, encapsulated, number_of_frames, frame_length, frames = raw["pixels"]
            pixels = PixelLayout(
                tag,
                Span(*value),
                encapsulated,
                number_of_frames,
                frame_length,
                tuple(tuple(Span(frame[i], frame[i + 1]) for i in range(0, len(frame), 2)) for frame in frames),
            )
        return cls(pixels, {path: Span(*span) for path, span in raw["bulk"].items()}, raw["deflated"])
