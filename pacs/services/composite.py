"""Instances sent in part: frames of one as an instance of its own (PS3.4 Y), all but the bulk data (PS3.4 Z)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

from pacs import __version__
from pacs.blobs.base import BlobStore
from pacs.dicom import transfer_syntax
from pacs.dicom.header import read_header
from pacs.dicom.model import Attributes, BlobRef, StoredInstance
from pacs.dicom.uids import new_uid
from pacs.errors import NotAcceptable, NotFound
from pacs.imaging.extract import Extraction, can_extract, extract_frames, kept_syntax, write_without_bulk_data
from pacs.imaging.frame_attributes import seconds_of
from pacs.imaging.pool import Pool
from pacs.imaging.source import Source
from pacs.imaging.transcode import transcode
from pacs.index.base import Index
from pacs.services.file_span import file_pieces
from pacs.services.retrieve import Content

SIMPLE_LIST, CALCULATED_LIST, TIME_RANGE = "00081161", "00081162", "00081163"
_BYTES_A_SECOND = 20e6  # of what is copied, at the least


class Refusal(Enum):
    """Why frames are not extracted (PS3.4 Y.4.1.1.4): what a peer is told."""

    NONE_FOUND = "none of the frames is in the instance"
    NO_INSTANCE = "no instance can be made of frames of this one"
    NOT_EXTRACTED = "the frames cannot be taken apart"
    NOT_TIMED = "the instance does not say when its frames are shown"
    INVALID = "not one valid list of frames"


class Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Extracted:
    """An instance that was made. Its file is temporary; ``Parts.data_set`` sends it."""

    instance: StoredInstance
    path: Path


class Parts:
    """Safe to call from any thread. Raises what Retrieve raises."""

    def __init__(self, index: Index, blobs: BlobStore, pool: Pool) -> None:
        self._index = index
        self._blobs = blobs
        self._pool = pool

    @contextmanager
    def frames(self, instance: StoredInstance, keys: Attributes) -> Iterator[Extracted]:
        """Make an instance of some frames. keys: SIMPLE_LIST, CALCULATED_LIST or TIME_RANGE. Raises Refused."""
        with self._temporary("frames") as path:
            with self._source(instance) as source:
                numbers = frame_numbers(source, keys)
                (asked,) = (tag for tag in (SIMPLE_LIST, CALCULATED_LIST, TIME_RANGE) if tag in keys)
                wanted = Extraction(numbers, new_uid(), {asked: keys[asked]}, _equipment())
                try:
                    self._pool.run_for(self._timeout_s(instance), extract_frames, source, path, wanted)
                except NotAcceptable as error:
                    raise Refused(Refusal.NOT_EXTRACTED) from error
            header = read_header(path)
            size_bytes = path.stat().st_size
            made = replace(
                instance,
                target=replace(instance.target, sop_uid=wanted.sop_uid),
                transfer_syntax_uid=header.transfer_syntax_uid,
                blob=BlobRef(path.name, size_bytes, ""),
                data_set_offset=header.data_set_offset,
            )
            yield Extracted(made, path)

    def extracted_data_set(self, extracted: Extracted, transfer_syntax_uid: str | None) -> Content:
        """As ``Retrieve.data_set``."""
        instance, path = extracted.instance, extracted.path
        if transfer_syntax_uid in (None, instance.transfer_syntax_uid):
            return _content(path, instance.data_set_offset, instance.transfer_syntax_uid, None)
        header = read_header(path)
        source = Source(path, header.transfer_syntax_uid, header.data_set_offset, header.json, header.layout)
        with self._kept("transcoded") as made:
            self._pool.run_for(self._timeout_s(instance), transcode, source, made, transfer_syntax_uid)
            assert transfer_syntax_uid is not None
            return _content(made, read_header(made).data_set_offset, transfer_syntax_uid, made)

    def without_bulk_data(self, instance: StoredInstance, transfer_syntax_uid: str) -> Content:
        """The data set of an instance as (it would be in) a transfer syntax that is neither big endian nor deflated."""
        implicit = transfer_syntax.find(transfer_syntax_uid).implicit
        with self._source(instance) as source, self._kept("without") as path:
            self._pool.run_for(self._timeout_s(instance), write_without_bulk_data, source, path, implicit=implicit)
            return _content(path, 0, transfer_syntax_uid, path)

    def _timeout_s(self, instance: StoredInstance) -> float:
        return self._pool.timeout_s + instance.blob.size_bytes / _BYTES_A_SECOND

    @contextmanager
    def _source(self, instance: StoredInstance) -> Iterator[Source]:
        held = self._index.held(instance.target)
        if held is None:
            raise NotFound("the instance is gone")
        now = held.instance
        with self._blobs.local(now.blob) as path:
            yield Source(path, now.transfer_syntax_uid, now.data_set_offset, held.metadata, held.layout)

    @contextmanager
    def _temporary(self, kind: str) -> Iterator[Path]:
        """A name for a file that goes at the end."""
        with self._kept(kind) as path:
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def _kept(self, kind: str) -> Iterator[Path]:
        """A name for a file that stays, unless something is raised."""
        path = self._blobs.incoming() / f"{secrets.token_hex(12)}.{kind}"
        try:
            yield path
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def sendable(instance: StoredInstance) -> StoredInstance:
    """The instance as ``without_bulk_data`` sends it."""
    return replace(instance, transfer_syntax_uid=kept_syntax(instance.transfer_syntax_uid))


def frame_numbers(source: Source, keys: Attributes) -> list[int]:
    """Which frames a FRAME level request means (PS3.4 Y.3.2.1), ascending; those beyond the last are passed over.

    Raises Refused.
    """
    given = [tag for tag in (SIMPLE_LIST, CALCULATED_LIST, TIME_RANGE) if tag in keys]
    pixels = source.layout.pixels
    if pixels is None or not can_extract(source):
        raise Refused(Refusal.NO_INSTANCE)
    if len(given) != 1:
        raise Refused(Refusal.INVALID)
    values: list[Any] = keys[given[0]].get("Value") or []
    total = pixels.number_of_frames
    if given[0] == TIME_RANGE:
        numbers = _within(source, values)
    elif given[0] == SIMPLE_LIST:
        numbers = values
    else:
        numbers = _calculated(values, total)
    if not values or not all(isinstance(number, int) and number > 0 for number in numbers):
        raise Refused(Refusal.INVALID)
    if any(before >= after for before, after in pairwise(numbers)):
        raise Refused(Refusal.INVALID)
    found = [number for number in numbers if number <= total]
    if not found:
        raise Refused(Refusal.NONE_FOUND)
    return found


def _calculated(values: Sequence[Any], total: int) -> list[int]:
    """First, last and step of each range."""
    if len(values) % 3 or not all(isinstance(value, int) and value > 0 for value in values):
        raise Refused(Refusal.INVALID)
    numbers: list[int] = []
    for first, last, step in zip(values[::3], values[1::3], values[2::3], strict=True):
        if last < first or (numbers and first <= numbers[-1]):
            raise Refused(Refusal.INVALID)
        numbers += range(first, min(last, total) + 1, step)
    return numbers


def _within(source: Source, values: Sequence[Any]) -> list[int]:
    """Frames that are shown from the one moment to the other, in seconds from the first frame."""
    if len(values) != 2 or not all(isinstance(value, int | float) for value in values):
        raise Refused(Refusal.INVALID)
    seconds = seconds_of(source)
    if seconds is None:
        raise Refused(Refusal.NOT_TIMED)
    found = [number for number, at in enumerate(seconds, 1) if values[0] <= at <= values[1]]
    if not found:
        raise Refused(Refusal.NONE_FOUND)
    return found


def _equipment() -> Attributes:
    """An item of Contributing Equipment Sequence (PS3.3 C.12.1.1.5): this archive."""
    purpose = {
        "00080100": {"vr": "SH", "Value": ["109105"]},
        "00080102": {"vr": "SH", "Value": ["DCM"]},
        "00080104": {"vr": "LO", "Value": ["Frame Extracting Equipment"]},
    }
    return {
        "00080070": {"vr": "LO", "Value": ["raccoon-pacs"]},
        "00181020": {"vr": "LO", "Value": [__version__]},
        "0018A002": {"vr": "DT", "Value": [f"{datetime.now(UTC):%Y%m%d%H%M%S}+0000"]},
        "0040A170": {"vr": "SQ", "Value": [purpose]},
    }


def _content(path: Path, start: int, transfer_syntax_uid: str, temporary: Path | None) -> Content:
    size_bytes = path.stat().st_size - start
    return Content(size_bytes, transfer_syntax_uid, file_pieces(path, start), temporary)
