"""A stored file's header: identity, attributes as DICOM JSON, and where its bulk data lie. Read once, at ingest."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from pacs.dicom import file_meta, non_patient, uids
from pacs.dicom.buffer import Buffer
from pacs.dicom.file_meta import FileMeta
from pacs.dicom.frames import pixel_layout
from pacs.dicom.guess import encoding_at, guessed_transfer_syntax
from pacs.dicom.inflate import MAX_INFLATED_BYTES, inflated
from pacs.dicom.json_model import ORJSON_MAX_DEPTH, dumps
from pacs.dicom.layout import Layout
from pacs.dicom.model import Header, Target
from pacs.dicom.parsed import Parsed
from pacs.dicom.parser import parse
from pacs.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, find
from pacs.errors import InvalidValue, MissingAttribute, MissingValue, NotStorable, Rejected, Unreadable

BULK_THRESHOLD = 1024


class Fallback(Protocol):
    """What is known of an object besides its bytes: ``FileMeta``, or anything alike."""

    @property
    def sop_class_uid(self) -> str: ...
    @property
    def sop_uid(self) -> str: ...
    @property
    def transfer_syntax_uid(self) -> str: ...


def read_header(
    path: Path,
    *,
    fallback: Fallback | None = None,
    derive_uids: bool = False,
    bulk_threshold: int = BULK_THRESHOLD,
    max_inflated_bytes: int = MAX_INFLATED_BYTES,
    content: Buffer | None = None,
    known_meta: tuple[FileMeta, int] | None = None,
) -> Header:
    """Read a Part 10 file, or a bare data set, without its bulk data. content: the file's, where it is at hand.

    known_meta: its file meta information, and where the data set begins, where that need not be found out.

    fallback: its transfer syntax is used when the file has none. derive_uids: SOP UIDs that are missing come from the
    file meta or ``fallback``, missing Study and Series UIDs are made from the SOP Instance UID; all of them are then in
    ``attributes`` too. Objects that belong to no patient have their Study and Series UIDs made in any case.
    bulk_threshold: bytes above which a bulk value is not inline. Memory does not grow with the file. Raises the
    Rejected kinds, with the UIDs that could be read.
    """
    known: Fallback | None = fallback
    parsed = Parsed()
    try:
        with _mapped(path) if content is None else nullcontext(content) as buffer:
            if not buffer:
                raise Unreadable("There is not a single byte")
            meta, offset = known_meta or file_meta.read(buffer)
            known = meta if meta is not None else fallback
            syntax = _transfer_syntax(buffer, offset, meta, fallback)
            layout = _parse(buffer, offset, syntax, parsed, bulk_threshold, max_inflated_bytes, path.parent)
        sources = [source for source in (meta, fallback) if source is not None] if derive_uids else []
        target, sop_class_uid = _identity(parsed.attributes, sources, derive_uids)
    except Rejected as error:
        error.sop_class_uid = _text(parsed.attributes, "00080016") or (known.sop_class_uid if known else "")
        error.sop_uid = _text(parsed.attributes, "00080018") or (known.sop_uid if known else "")
        raise
    header = Header(target, sop_class_uid, syntax, offset, parsed.attributes, layout)
    if parsed.depth > ORJSON_MAX_DEPTH:
        # Fills the cached property, which cannot make this one itself.
        header.__dict__["json"] = dumps(parsed.attributes)
    return header


def parse_data_set(data: bytes, transfer_syntax_uid: str) -> dict[str, Any]:
    """A data set in memory, a C-FIND identifier for example, as DICOM JSON; everything inline, empty elements kept.

    Raises Unreadable.
    """
    return parse_in_memory(data, transfer_syntax_uid).attributes


def parse_in_memory(data: bytes, transfer_syntax_uid: str) -> Parsed:
    """As ``parse_data_set``, with what else is known of the data set."""
    syntax = find(transfer_syntax_uid)
    if syntax.deflated:
        with inflated(data, 0, MAX_INFLATED_BYTES, None) as buffer:
            return parse(buffer, 0, encoding_at(buffer, 0, syntax), bulk_threshold=None)
    return parse(data, 0, encoding_at(data, 0, syntax), bulk_threshold=None)


@contextmanager
def _mapped(path: Path) -> Iterator[Buffer]:
    with path.open("rb") as file:
        try:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise Unreadable("There is not a single byte") from error
    with buffer:
        yield buffer


def _transfer_syntax(buffer: Buffer, offset: int, meta: file_meta.FileMeta | None, fallback: Fallback | None) -> str:
    stated = (meta.transfer_syntax_uid if meta else "") or (fallback.transfer_syntax_uid if fallback else "")
    return stated or guessed_transfer_syntax(buffer, offset)


def _parse(
    buffer: Buffer,
    offset: int,
    syntax_uid: str,
    parsed: Parsed,
    bulk_threshold: int,
    max_inflated_bytes: int,
    folder: Path,
) -> Layout:
    syntax = find(syntax_uid)
    if not syntax.deflated:
        parse(buffer, offset, encoding_at(buffer, offset, syntax), bulk_threshold=bulk_threshold, into=parsed)
        return Layout(pixel_layout(parsed, buffer, syntax_uid), parsed.bulk)
    with inflated(buffer, offset, max_inflated_bytes, folder) as plain:
        parse(plain, 0, encoding_at(plain, 0, syntax), bulk_threshold=bulk_threshold, into=parsed)
        return Layout(pixel_layout(parsed, plain, EXPLICIT_VR_LITTLE_ENDIAN), parsed.bulk, deflated=True)


def _identity(attributes: dict[str, Any], sources: list[Fallback], derive: bool) -> tuple[Target, str]:
    """The four UIDs; checked, and completed when ``derive``."""
    sop_class_uid = _uid(attributes, "00080016", "SOP Class UID", _first(s.sop_class_uid for s in sources))
    if not uids.is_storage_class(sop_class_uid):
        raise NotStorable("Instances of this SOP class are not stored")
    sop_uid = _uid(attributes, "00080018", "SOP Instance UID", _first(s.sop_uid for s in sources))
    derive = derive or sop_class_uid in non_patient.CLASSES
    study = uids.derived_uid(sop_uid, "study") if derive else ""
    series = uids.derived_uid(sop_uid, "series") if derive else ""
    study_uid = _uid(attributes, "0020000D", "Study Instance UID", study)
    series_uid = _uid(attributes, "0020000E", "Series Instance UID", series)
    return Target(study_uid, series_uid, sop_uid), sop_class_uid


def _uid(attributes: dict[str, Any], tag: str, name: str, otherwise: str) -> str:
    values = attributes.get(tag, {}).get("Value")
    if not values:
        if not otherwise:
            kind = MissingValue if tag in attributes else MissingAttribute
            raise kind(f"{name} ({tag[:4]},{tag[4:]}) is {'empty' if tag in attributes else 'missing'}")
        values = [otherwise]
        attributes[tag] = {"vr": "UI", "Value": values}
        ordered = sorted(attributes.items())
        attributes.clear()
        attributes.update(ordered)
    uid = values[0]
    if len(values) != 1 or not isinstance(uid, str) or not uids.is_possible(uid):
        raise InvalidValue(f"{name} ({tag[:4]},{tag[4:]}) is not a UID")
    return uid


def _first(values: Iterator[str]) -> str:
    return next((value for value in values if value), "")


def _text(attributes: dict[str, Any], tag: str) -> str:
    values = attributes.get(tag, {}).get("Value")
    return values[0] if values and isinstance(values[0], str) else ""
