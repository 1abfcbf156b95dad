"""Documents of the Mongo index, and answers made from them.

Each document says by itself what it is about: ``_id`` is a study's UID, or the UIDs down to a series or an instance
joined by backslashes (which no UID holds); a patient's is its identity. ``o`` is the place in the order of first
storage. ``f`` and ``r`` are ready JSON (the default answer's attributes, the others that the level keeps), ``d`` their
digest, ``k`` the keys: for each tag the list of normal forms, all component groups of a name; absent without a value.
A patient's also hold the parts of names (``parts``), "" where there is none: what an older program wrote lacks them.
``n`` holds counters. A study carries its patient's ``f``, ``r``, ``d`` and ``k`` in ``p``, so that it is searched and
shown without another document; an instance carries its whole metadata ``m`` and layout ``l``, unless they are too long
for a document.

Values of a document are replaced, never changed in place (``mongo_unit`` tells by that what to write).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from pacs.dicom.attributes import Attribute
from pacs.dicom.json_model import dumps
from pacs.dicom.matching import timezone_of
from pacs.dicom.model import BlobRef, Level, StoredInstance, Target
from pacs.dicom.normal import Kind, kind_of, normal_values
from pacs.index.base import Fields
from pacs.index.fields import COUNTED, IDENTITY, outside, take, wanted
from pacs.index.parts import PARTED, parts_of
from pacs.index.rows import KEPT, LevelRow, Prepared, Rows, columns

Document = dict[str, Any]
COLLECTIONS = {Level.PATIENT: "patients", Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "instances"}
COUNTERS = {
    Level.PATIENT: ("00201200", "00201202", "00201204"),
    Level.STUDY: ("00201206", "00201208"),
    Level.SERIES: ("00201209",),
    Level.IMAGE: (),
}
# Longer metadata and layouts go to ``contents``, packed and in pieces: a document has at most 16 MB, and what one
# transaction writes has to fit into a part of the server's cache.
WHOLE_BYTES = 2 << 20
# What is read of an instance to send or open it.
STORED = dict.fromkeys(
    (
        *("series_id", "sop_uid", "sop_class_uid", "transfer_syntax_uid", "blob_key", "size_bytes", "blob_digest"),
        *("data_set_offset", "number", "o", "seq", "study_digest"),
    ),
    1,
)
PARTS = f"{PARTED}_parts"
_UIDS = {"0020000D": "_id", "0020000E": "series_uid", "00080018": "sop_uid"}


def series_id(target: Target) -> str:
    return f"{target.study_uid}\\{target.series_uid}"


def instance_id(target: Target) -> str:
    return f"{target.study_uid}\\{target.series_uid}\\{target.sop_uid}"


def study_of(document_id: str) -> str:
    return document_id.partition("\\")[0]


def subtree(target: Target) -> Document:
    """The filter on instances of all that belong to a target."""
    study: Document = {"study_uid": target.study_uid}
    if target.sop_uid is not None:
        return {**study, "_id": instance_id(target)}
    if target.series_uid is not None:
        return {**study, "series_id": series_id(target)}
    # "]" follows the backslash.
    return {**study, "series_id": {"$gt": f"{target.study_uid}\\", "$lt": f"{target.study_uid}]"}}


def within_uids(target: Target) -> Document:
    """The filter on superseded and deleted versions."""
    pairs = (("study_uid", target.study_uid), ("series_uid", target.series_uid), ("sop_uid", target.sop_uid))
    return {name: uid for name, uid in pairs if uid is not None}


def field_of(attribute: Attribute, level: Level) -> str:
    """Where a document of a level holds the keys of an attribute; a study holds its patient's as well."""
    if attribute.tag in _UIDS and attribute.level is level:
        return _UIDS[attribute.tag]
    if attribute.counted and attribute.vr == "IS":
        return f"n.{attribute.tag}"
    return f"p.k.{attribute.tag}" if attribute.level < level else f"k.{attribute.tag}"


def add_parts(keys: Document) -> None:
    """To a patient's keys."""
    keys[PARTS] = parts_of(keys.get(PARTED, ())) or [""]


def body(level: Level, row: LevelRow) -> Document:
    """What one instance's attributes make of a document."""
    values = iter(row.columns)
    keys: Document = {}
    for attribute in KEPT[level]:
        own = [next(values) for _ in columns(attribute)]
        if attribute.tag in _UIDS:
            continue
        if own[0].__class__ is bytes:
            listed = orjson.loads(own[0])
            keys[attribute.tag] = (
                [part for name in listed for part in name if part]
                if kind_of(attribute.vr) is Kind.NAME
                else [fit(one) for one in listed]
            )
        elif any(one is not None for one in own):
            keys[attribute.tag] = [fit(one) for one in own if one is not None]
    if level is Level.PATIENT:
        add_parts(keys)
    return {"f": row.fragment, "r": row.rest, "d": row.digest, "k": keys}


def fit(value: Any) -> Any:
    """A number as BSON can keep it; keys and values go the same way, so that they still meet."""
    return float(value) if value.__class__ is int and not -_INT64 <= value < _INT64 else value


_INT64 = 1 << 63


def new_study(uid: str, order: int) -> Document:
    return {
        **{"_id": uid, "o": order, "patient": None, "last": "", "last_seq": 0, "study_digest": None},
        **{"inconsistent": False, "modalities": [], "classes": [], "k": {}, "n": {"00201206": 0, "00201208": 0}},
    }


def new_series(target: Target, order: int) -> Document:
    return {
        **{"_id": series_id(target), "study_uid": target.study_uid, "series_uid": target.series_uid, "o": order},
        **{"last": "", "last_seq": 0, "d": None, "modality": None, "n": {"00201209": 0}},
    }


def new_patient(identity: str, order: int) -> Document:
    return {"_id": identity, "o": order, "last": "", "d": None, "n": dict.fromkeys(COUNTERS[Level.PATIENT], 0)}


def new_instance(item: Prepared, order: int, seq: int) -> Document:
    record, header, source = item.record, item.record.header, item.record.source
    stored = StoredInstance(
        header.target, header.sop_class_uid, header.transfer_syntax_uid, record.blob, header.data_set_offset
    )
    document = {
        "_id": instance_id(header.target),
        "o": order,
        "seq": seq,
        "study_uid": header.target.study_uid,
        **stored_fields(stored),
        **image_fields(item.rows, header.transfer_syntax_uid),
        "timezone": timezone_of(header.attributes),
        "received_at": record.received_at.isoformat(),
        "source": [source.name, source.address, source.protocol],
    }
    if len(item.metadata) + len(item.layout) <= WHOLE_BYTES:
        document.update(m=item.metadata, l=item.layout)
    return document


def image_fields(rows: Rows, transfer_syntax_uid: str) -> Document:
    """What an instance's attributes make of its document. number: for the order of instances, infinite without one."""
    found = body(Level.IMAGE, rows.image)
    found["k"]["00083002"] = [transfer_syntax_uid]
    number = rows.number
    return {
        **found,
        "number": float("inf") if number is None else fit(number),
        "study_digest": rows.study_digest,
    }


def stored_fields(instance: StoredInstance) -> Document:
    target, blob = instance.target, instance.blob
    return {
        "series_id": series_id(target),
        "sop_uid": target.sop_uid,
        "sop_class_uid": instance.sop_class_uid,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "blob_key": blob.key,
        "size_bytes": blob.size_bytes,
        "blob_digest": blob.digest,
        "data_set_offset": instance.data_set_offset,
    }


def version_fields(instance: StoredInstance) -> Document:
    """Of a superseded or deleted version."""
    found = stored_fields(instance)
    del found["series_id"]
    return {"study_uid": instance.target.study_uid, "series_uid": instance.target.series_uid, **found}


def stored_instance(document: Document) -> StoredInstance:
    """Of an instance's document, or a superseded or deleted version's."""
    series = document.get("series_id")
    study_uid, series_uid = series.split("\\") if series else (document["study_uid"], document["series_uid"])
    return StoredInstance(
        Target(study_uid, series_uid, document["sop_uid"]),
        document["sop_class_uid"],
        document["transfer_syntax_uid"],
        BlobRef(document["blob_key"], document["size_bytes"], document["blob_digest"]),
        document["data_set_offset"],
    )


def counted(counts: Iterable[tuple[str, int]], name: str, by: int) -> list[list[Any]]:
    """A list of [name, number] with one number changed, in the order of names; those at nothing are left out."""
    found = dict(counts)
    found[name] = found.get(name, 0) + by
    return sorted([one, number] for one, number in found.items() if number > 0)


def with_lists(study: Document) -> None:
    """Bring a study's keys of modalities and classes up to its counts."""
    keys = {tag: value for tag, value in study["k"].items() if tag not in _LISTS}
    for tag, (name, kind) in _LISTS.items():
        form = normal_values({"Value": _names(study, name)}, kind)
        if form is not None:
            keys[tag] = list(form)
    study["k"] = keys


def attributes_of(level: Level, document: Document) -> Document:
    """What a document says, counted attributes included: what keys are compared with. A study's with its patient's."""
    found: Document = {**orjson.loads(document["f"]), **orjson.loads(document["r"])}
    if level is Level.STUDY:
        patient = document["p"]
        found = {**orjson.loads(patient["f"]), **orjson.loads(patient["r"]), **found}
        for tag, (name, kind) in _LISTS.items():
            found[tag] = {"vr": "UI" if kind is Kind.UID else "CS", "Value": _names(document, name)}
    for tag in COUNTERS[level]:
        found[tag] = {"vr": "IS", "Value": [document["n"][tag]]}
    if level is Level.IMAGE and document["timezone"]:
        found["00080201"] = {"vr": "SH", "Value": [document["timezone"]]}
    return found


class RowMaker:
    """JSON objects of one query's rows.

    fields_of: what is read of a level's documents. needs: levels above whose documents are wanted. has_metadata: the
    instance's metadata, or those of a row's last instance, are wanted.
    """

    def __init__(self, fields: Fields, level: Level) -> None:
        self._level = level
        self._wanted = {at: wanted(fields, at) for at in Level if at <= level}
        self._outside = outside(fields, level)
        self._is_whole = fields.everything and level is Level.IMAGE
        self.has_metadata = bool(self._outside) or self._is_whole
        self.needs = {at for at in (Level.STUDY, Level.SERIES) if at < level and self._wanted[at].is_anything}
        if level > Level.PATIENT:
            patient = self._wanted[Level.PATIENT]
            if patient.counted:
                self.needs.add(Level.PATIENT)
            if patient.is_anything and level > Level.STUDY:
                # A study has its patient with it.
                self.needs.add(Level.STUDY)

    def json(self, chain: Mapping[Level, Document], metadata: bytes | None) -> bytes:
        """One object, attributes in ascending order of tags. chain: the row's document and those above, by level."""
        found: Document = {}
        for at in Level:
            if at <= self._level and self._wanted[at].is_anything:
                found.update(self._read(at, chain))
        if metadata is not None:
            whole = orjson.loads(metadata)
            if self._is_whole:
                # The instance's own values; what only the index knows comes from the documents.
                found.update({tag: whole[tag] for tag in whole if tag not in IDENTITY and tag not in COUNTED})
            else:
                take(whole, self._outside, found)
        return dumps(dict(sorted(found.items())))

    def _read(self, level: Level, chain: Mapping[Level, Document]) -> Document:
        asked = self._wanted[level]
        document = chain.get(level, {})
        texts = document
        if level is Level.PATIENT and Level.STUDY in chain:
            texts = chain[Level.STUDY]["p"]
        values: list[Any] = [texts["f"]]
        if asked.tags is None or asked.tags:
            values.append(texts["r"])
        for attribute in asked.counted:
            if attribute.tag in _LISTS:
                values.append(orjson.dumps(_names(document, _LISTS[attribute.tag][0])))
            else:
                values.append(document["n"][attribute.tag])
        return asked.read(values)


_LISTS = {"00080061": ("modalities", Kind.TEXT), "00080062": ("classes", Kind.UID)}


def _names(study: Document, field: str) -> list[str]:
    return [name for name, _ in study[field] if name]
