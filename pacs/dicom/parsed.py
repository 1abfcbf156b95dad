"""What the parser makes of a data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pacs.dicom.encapsulation import Fragments
from pacs.dicom.layout import Span


class Encoding(NamedTuple):
    """How a data set is written."""

    implicit: bool
    big_endian: bool


class Pixels(NamedTuple):
    """Pixel data of the top level. fragments: None when native."""

    tag: int
    value: Span
    fragments: Fragments | None


@dataclass(slots=True)
class Parsed:
    """attributes in ascending tag order; bulk by tag path; offsets count from the start of the buffer.

    depth: how deep sequences are nested. character_set: values of (0008,0005) as they were written."""

    attributes: dict[str, Any] = field(default_factory=dict)
    bulk: dict[str, Span] = field(default_factory=dict)
    pixels: Pixels | None = None
    depth: int = 0
    character_set: tuple[str, ...] = ()
