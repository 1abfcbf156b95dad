"""Documents of the Mongo index: one per patient, study, series and instance, and how they become rows of an answer.

``_id`` comes from one counter: its order is the order of first storage. ``f`` and ``r`` are the level's attributes as
ready JSON (default answer, rest), ``k`` their normal forms (``mongo_conditions``), ``last`` the instance that speaks
for the row. A study holds ``patient_id``, ``classes`` (SOP class and number) and ``modalities``; a series
``study_id``; an instance both ids and what names its file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from pacs.dicom.attributes import BY_TAG
from pacs.dicom.json_model import dumps
from pacs.dicom.model import BlobRef, Level, StoredInstance, Target
from pacs.dicom.normal import Kind, kind_of, normal_values
from pacs.index.base import Fields
from pacs.index.sqlite_json import COUNTED, IDENTITY, outside, take, wanted
from pacs.index.sqlite_rows import KEPT, LevelRow
from pacs.index.sqlite_schema import columns

Document = dict[str, Any]
COLLECTIONS = {Level.PATIENT: "patients", Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "instances"}
PARENTS = {Level.STUDY: "patient_id", Level.SERIES: "study_id", Level.IMAGE: "series_id"}
COUNTERS = {
    Level.PATIENT: ("00201200", "00201202", "00201204"),
    Level.STUDY: ("00201206", "00201208"),
    Level.SERIES: ("00201209",),
    Level.IMAGE: (),
}


def body(level: Level, row: LevelRow) -> Document:
    """Fields of a document that its attributes decide; ``k`` without counted ones."""
    values = iter(row.columns)
    keys: dict[str, Any] = {}
    for attribute in KEPT[level]:
        own = [next(values) for _ in columns(attribute)]
        if own[0].__class__ is bytes:
            listed = orjson.loads(own[0])
            keys[attribute.tag] = (
                [part for name in listed for part in name if part] if kind_of(attribute.vr) is Kind.NAME else listed
            )
        elif any(one is not None for one in own):
            keys[attribute.tag] = [one for one in own if one is not None]
    return {"f": row.fragment, "r": row.rest, "digest": row.digest, "k": keys}


def with_body(document: Document, level: Level, row: LevelRow) -> None:
    """Take another instance's attributes; what is counted stays."""
    counted = {tag: value for tag, value in document.get("k", {}).items() if BY_TAG[tag].counted}
    document.update(body(level, row))
    document["k"].update(counted)


def note_lists(study: Document, modalities: Iterable[str]) -> None:
    """Modalities and classes of a study, from its series and class counts."""
    study["modalities"] = sorted({one for one in modalities if one})
    listed = (("00080061", study["modalities"], Kind.TEXT), ("00080062", _classes(study), Kind.UID))
    for tag, values, kind in listed:
        form = normal_values({"Value": values}, kind)
        study["k"].pop(tag, None)
        if form is not None:
            study["k"][tag] = form


def _classes(study: Document) -> list[str]:
    return sorted(uid for uid, _ in study["classes"])


def attributes_of_row(level: Level, document: Document) -> dict[str, Any]:
    """What the row says, counted attributes included: what keys are compared with."""
    found: dict[str, Any] = {**orjson.loads(document["f"]), **orjson.loads(document["r"])}
    for tag in COUNTERS[level]:
        found[tag] = {"vr": "IS", "Value": [document["k"][tag]]}
    if level is Level.STUDY:
        found["00080061"] = {"vr": "CS", "Value": document["modalities"]}
        found["00080062"] = {"vr": "UI", "Value": _classes(document)}
    if level is Level.IMAGE and document["timezone"]:
        found["00080201"] = {"vr": "SH", "Value": [document["timezone"]]}
    return found


def stored_document(instance: StoredInstance) -> Document:
    target, blob = instance.target, instance.blob
    return {
        "study_uid": target.study_uid,
        "series_uid": target.series_uid,
        "sop_uid": target.sop_uid,
        "sop_class_uid": instance.sop_class_uid,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "blob_key": blob.key,
        "size_bytes": blob.size_bytes,
        "blob_digest": blob.digest,
        "data_set_offset": instance.data_set_offset,
    }


def stored_instance(document: Document) -> StoredInstance:
    return StoredInstance(
        Target(document["study_uid"], document["series_uid"], document["sop_uid"]),
        document["sop_class_uid"],
        document["transfer_syntax_uid"],
        BlobRef(document["blob_key"], document["size_bytes"], document["blob_digest"]),
        document["data_set_offset"],
    )


def within_uids(target: Target) -> Document:
    pairs = (("study_uid", target.study_uid), ("series_uid", target.series_uid), ("sop_uid", target.sop_uid))
    return {name: uid for name, uid in pairs if uid is not None}


class RowMaker:
    """JSON objects of one query's rows.

    parents: documents of the levels above by level and id. metadata: of instances by id.
    """

    def __init__(self, fields: Fields, level: Level) -> None:
        self._level = level
        self._wanted = {at: wanted(fields, at) for at in Level if at <= level}
        self._outside = outside(fields, level)
        self._is_whole = fields.everything and level is Level.IMAGE
        self.has_metadata = bool(self._outside) or self._is_whole
        self.has_parents = any(self._wanted[at].is_anything for at in Level if at < level)

    def json(
        self, document: Document, parents: Mapping[Level, Mapping[int, Document]], metadata: Mapping[int, bytes]
    ) -> bytes:
        """One object, attributes in ascending order of tags."""
        chain = [(self._level, document)]
        while self.has_parents and chain[-1][0] > Level.PATIENT:
            at, own = chain[-1]
            upper = Level(at - 1)
            chain.append((upper, parents[upper][own[PARENTS[at]]]))
        found: dict[str, Any] = {}
        for at, own in reversed(chain):
            found.update(self._read(at, own))
        if self.has_metadata:
            whole = orjson.loads(metadata[document["_id"] if self._level is Level.IMAGE else document["last"]])
            if self._is_whole:
                found.update({tag: whole[tag] for tag in whole if tag not in IDENTITY and tag not in COUNTED})
            else:
                take(whole, self._outside, found)
        return dumps(dict(sorted(found.items())))

    def _read(self, level: Level, document: Document) -> dict[str, Any]:
        asked = self._wanted[level]
        values: list[Any] = [document["f"]]
        if asked.tags is None or asked.tags:
            values.append(document["r"])
        for attribute in asked.counted:
            if attribute.tag == "00080061":
                values.append(orjson.dumps(document["modalities"]))
            elif attribute.tag == "00080062":
                values.append(orjson.dumps(_classes(document)))
            else:
                values.append(document["k"][attribute.tag])
        return asked.read(values)
