"""Changes of the Mongo index, each inside a transaction (``mongo.MongoIndex``).

Every transaction begins by taking ids from the one counter document, so two that change anything never overlap, of
whatever process they are: the later one meets a write conflict and is run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from pacs.dicom.matching import timezone_of
from pacs.dicom.model import BlobRef, Level, StoredInstance, Target
from pacs.index import mongo_added
from pacs.index.base import Discarded, Put, PutResult
from pacs.index.mongo_rows import (
    Document,
    body,
    note_lists,
    stored_document,
    stored_instance,
    with_body,
    within_uids,
)
from pacs.index.sqlite_rows import Prepared, Rows, rows_of

# A document has at most 16 MB.
_CHUNK = 8 << 20


class Transaction:
    """One transaction's database and ids. room: how many ids it may need."""

    def __init__(self, database: Any, session: Any, room: int) -> None:
        self.db = database
        self.session = session
        self._next = self._end = 0
        self._reserve(room)

    def _reserve(self, room: int) -> None:
        meta = self.db.meta.find_one_and_update({"_id": "archive"}, {"$inc": {"next_id": room}}, session=self.session)
        self._next = int(meta["next_id"])
        self._end = self._next + room

    def new_id(self) -> int:
        if self._next == self._end:
            self._reserve(100)
        self._next += 1
        return self._next - 1

    def one(self, name: str, where: Document) -> Document | None:
        found: Document | None = self.db[name].find_one(where, session=self.session)
        return found

    def all(self, name: str, where: Document) -> list[Document]:
        return list(self.db[name].find(where, session=self.session).sort("_id", 1))

    def insert(self, name: str, document: Document) -> None:
        self.db[name].insert_one(document, session=self.session)

    def save(self, name: str, document: Document) -> None:
        self.db[name].replace_one({"_id": document["_id"]}, document, session=self.session, upsert=True)

    def drop(self, name: str, where: Document) -> None:
        self.db[name].delete_many(where, session=self.session)

    def grow(self, size_bytes: int) -> None:
        self.db.meta.update_one({"_id": "archive"}, {"$inc": {"size_bytes": size_bytes}}, session=self.session)


def put_all(tx: Transaction, items: Sequence[Prepared], *, replace: bool) -> list[PutResult]:
    """Add records one after the other."""
    added = mongo_added.definitions(tx) if items else []
    return [_put(tx, item, replace, added) for item in items]


def remove_all(tx: Transaction, targets: Sequence[Target]) -> list[BlobRef]:
    """Take subtrees out, superseded versions too; the files that no row points at any more."""
    blobs: dict[str, BlobRef] = {}
    for target in targets:
        for instance in [*_take_superseded(tx, target), *take_out(tx, target)]:
            blobs[instance.blob.key] = instance.blob
    return [ref for key, ref in blobs.items() if not holds_key(tx.db, key, tx.session)]


def holds_key(database: Any, key: str, session: Any = None) -> bool:
    return any(
        database[name].find_one({"blob_key": key}, {"_id": 1}, session=session) is not None
        for name in ("instances", "superseded", "deleted")
    )


def delete(tx: Transaction, target: Target, at: datetime) -> list[StoredInstance]:
    """Take a subtree out and note what was there, earlier versions too."""
    instances = [*take_out(tx, target), *_take_superseded(tx, target)]
    bury(tx, [Discarded(instance, at, is_deleted=True) for instance in instances])
    return instances


def bury(tx: Transaction, versions: Sequence[Discarded]) -> None:
    for version in versions:
        if tx.one("deleted", {"blob_key": version.instance.blob.key}) is None:
            row = {"_id": tx.new_id(), **stored_document(version.instance), "at": version.at.isoformat()}
            tx.insert("deleted", row)


def forget(tx: Transaction, keys: Sequence[str]) -> None:
    tx.drop("superseded", {"blob_key": {"$in": list(keys)}})
    tx.db.deleted.update_many({"blob_key": {"$in": list(keys)}}, {"$unset": {"blob_key": ""}}, session=tx.session)


def _put(tx: Transaction, item: Prepared, replace: bool, added: Sequence[mongo_added.Definition]) -> PutResult:
    header, blob, rows = item.record.header, item.record.blob, item.rows
    target = header.target
    study = tx.one("studies", {"uid": target.study_uid})
    series = study and tx.one("series", {"uid": target.series_uid, "study_id": study["_id"]})
    old = series and tx.one("instances", {"sop_uid": target.sop_uid, "series_id": series["_id"]})
    existing = None
    if old:
        existing = stored_instance(old)
        if (existing.blob.digest, existing.transfer_syntax_uid) == (blob.digest, header.transfer_syntax_uid):
            return PutResult(Put.SAME, existing)
        if not replace:
            return PutResult(Put.CONFLICT, existing)
        at = datetime.now(UTC).isoformat()
        tx.insert("superseded", {"_id": tx.new_id(), **stored_document(existing), "at": at})
    tx.grow(blob.size_bytes - (existing.blob.size_bytes if existing else 0))
    seq = tx.new_id()
    instance_id = old["_id"] if old else seq
    is_new_study, is_new_series = study is None, series is None
    study = study or _new_study(seq, target.study_uid)
    series = series or _new_series(seq, str(target.series_uid), study["_id"])
    _patient(tx, rows, seq, instance_id, study, (int(is_new_study), int(is_new_series), int(not old)))
    if study.get("digest") != rows.study_digest:
        study["inconsistent"] = not is_new_study
        with_body(study, Level.STUDY, rows.study)
        study["digest"] = rows.study_digest
    is_other_series = series.get("digest") != rows.series.digest
    if is_other_series:
        with_body(series, Level.SERIES, rows.series)
        series["modality"] = rows.modality
    _write_instance(tx, item, (seq, instance_id, study["_id"], series["_id"]), old is not None, added)
    series["last"], series["last_seq"] = instance_id, seq
    series["k"]["00201209"] += int(not old)
    tx.save("series", series)
    study["last"], study["last_seq"] = instance_id, seq
    study["k"]["00201206"] += int(is_new_series)
    study["k"]["00201208"] += int(not old)
    if existing:
        _count_class(study, existing.sop_class_uid, -1)
    _count_class(study, header.sop_class_uid, 1)
    _note_lists(tx, study)
    if existing:
        _note_inconsistency(tx, study)
    tx.save("studies", study)
    return PutResult(Put.REPLACED if existing else Put.STORED, existing)


def _new_study(seq: int, uid: str) -> Document:
    counted = {"00201206": 0, "00201208": 0}
    return {"_id": seq, "uid": uid, "patient_id": None, "classes": [], "inconsistent": False, "k": counted}


def _new_series(seq: int, uid: str, study_id: int) -> Document:
    return {"_id": seq, "uid": uid, "study_id": study_id, "k": {"00201209": 0}}


def _patient(
    tx: Transaction, rows: Rows, seq: int, instance_id: int, study: Document, grown: tuple[int, int, int]
) -> None:
    """The study's patient as this data set names it, made or brought up to date; the study goes there."""
    patient = tx.one("patients", {"identity": rows.identity}) or _new_patient(seq, rows.identity)
    if patient.get("digest") != rows.patient.digest:
        with_body(patient, Level.PATIENT, rows.patient)
    patient["last"] = instance_id
    old_id = study["patient_id"]
    study["patient_id"] = patient["_id"]
    if old_id is not None and old_id != patient["_id"]:
        whole = (1, study["k"]["00201206"], study["k"]["00201208"])
        _add(patient, whole)
        tx.save("studies", study)
        leave_patient(tx, old_id, whole)
    _add(patient, grown)
    tx.save("patients", patient)


def _new_patient(seq: int, identity: str) -> Document:
    return {"_id": seq, "identity": identity, "k": {"00201200": 0, "00201202": 0, "00201204": 0}}


def _add(patient: Document, by: tuple[int, int, int]) -> None:
    for tag, number in zip(("00201200", "00201202", "00201204"), by, strict=True):
        patient["k"][tag] += number


def leave_patient(tx: Transaction, patient_id: int, by: tuple[int, int, int]) -> None:
    """Count a patient down; it takes the attributes of the last stored instance that is left, or goes."""
    patient = tx.one("patients", {"_id": patient_id})
    assert patient is not None
    _add(patient, (-by[0], -by[1], -by[2]))
    studies = tx.all("studies", {"patient_id": patient_id})
    if not studies:
        tx.drop("patients", {"_id": patient_id})
        return
    last = max(studies, key=lambda study: int(study["last_seq"]))["last"]
    if patient["last"] != last:
        patient["last"] = last
        with_body(patient, Level.PATIENT, _rows_of(tx, last).patient)
    tx.save("patients", patient)


def _write_instance(
    tx: Transaction,
    item: Prepared,
    ids: tuple[int, int, int, int],
    is_replaced: bool,
    added: Sequence[mongo_added.Definition],
) -> None:
    seq, instance_id, study_id, series_id = ids
    record, header = item.record, item.record.header
    stored = StoredInstance(
        header.target, header.sop_class_uid, header.transfer_syntax_uid, record.blob, header.data_set_offset
    )
    document = {
        "_id": instance_id,
        "seq": seq,
        "study_id": study_id,
        "series_id": series_id,
        "number": item.rows.number,
        "study_digest": item.rows.study_digest,
        "timezone": timezone_of(header.attributes),
        **stored_document(stored),
        "received_at": record.received_at.isoformat(),
        "source": [record.source.name, record.source.address, record.source.protocol],
        **body(Level.IMAGE, item.rows.image),
    }
    document["k"]["00083002"] = [header.transfer_syntax_uid]
    values = mongo_added.values_of_all(added, header.attributes)
    if values:
        document["x"] = values
    if is_replaced:
        tx.save("instances", document)
        tx.drop("contents", {"i": instance_id})
    else:
        tx.insert("instances", document)
    for begin in range(0, max(1, len(item.metadata)), _CHUNK):
        tx.insert(
            "contents",
            {"_id": f"{instance_id}.m{begin:012}", "i": instance_id, "m": item.metadata[begin : begin + _CHUNK]},
        )
    for begin in range(0, max(1, len(item.layout)), _CHUNK):
        tx.insert(
            "contents",
            {"_id": f"{instance_id}.l{begin:012}", "i": instance_id, "l": item.layout[begin : begin + _CHUNK]},
        )


def contents(database: Any, session: Any, ids: Sequence[int], name: str) -> dict[int, bytes]:
    """Metadata ("m") or layout ("l") of instances by id; those that are gone are left out."""
    found: dict[int, list[bytes]] = {}
    where = {"i": {"$in": list(ids)}, name: {"$exists": True}}
    for chunk in database.contents.find(where, session=session).sort("_id", 1):
        found.setdefault(chunk["i"], []).append(chunk[name])
    return {instance_id: b"".join(chunks) for instance_id, chunks in found.items()}


def _rows_of(tx: Transaction, instance_id: int) -> Rows:
    document = tx.one("instances", {"_id": instance_id})
    assert document is not None
    one = stored_instance(document)
    metadata = contents(tx.db, tx.session, [instance_id], "m")[instance_id]
    return rows_of(orjson.loads(metadata), one.target, one.sop_class_uid, one.transfer_syntax_uid)


def _count_class(study: Document, uid: str, by: int) -> None:
    counted = Counter(dict(study["classes"]))
    counted[uid] += by
    study["classes"] = [[one, number] for one, number in counted.items() if number > 0]


def _note_lists(tx: Transaction, study: Document) -> None:
    found = tx.db.series.find({"study_id": study["_id"]}, {"modality": 1}, session=tx.session)
    note_lists(study, (one["modality"] for one in found))


def _note_inconsistency(tx: Transaction, study: Document) -> None:
    digests = tx.db.instances.distinct("study_digest", {"study_id": study["_id"]}, session=tx.session)
    study["inconsistent"] = len(digests) > 1


def _take_superseded(tx: Transaction, target: Target) -> list[StoredInstance]:
    found = tx.all("superseded", within_uids(target))
    tx.drop("superseded", within_uids(target))
    return [stored_instance(one) for one in found]


def take_out(tx: Transaction, target: Target) -> list[StoredInstance]:
    """Take the current versions of a subtree out, with counters, and return them."""
    found = tx.all("instances", within_uids(target))
    if not found:
        return []
    ids = [one["_id"] for one in found]
    tx.drop("contents", {"i": {"$in": ids}})
    tx.drop("instances", {"_id": {"$in": ids}})
    tx.grow(-sum(one["size_bytes"] for one in found))
    study = tx.one("studies", {"_id": found[0]["study_id"]})
    assert study is not None
    emptied = sum(
        _shrink(tx, series_id, number) for series_id, number in Counter(o["series_id"] for o in found).items()
    )
    study["k"]["00201206"] -= emptied
    study["k"]["00201208"] -= len(found)
    for one in found:
        _count_class(study, one["sop_class_uid"], -1)
    gone = (0, emptied, len(found))
    if study["k"]["00201208"] == 0:
        tx.drop("studies", {"_id": study["_id"]})
        leave_patient(tx, study["patient_id"], (1, emptied, len(found)))
        return [stored_instance(one) for one in found]
    _note_lists(tx, study)
    _note_inconsistency(tx, study)
    if study["last"] in ids:
        _refresh_study(tx, study, gone)
    else:
        tx.save("studies", study)
        leave_patient(tx, study["patient_id"], gone)
    return [stored_instance(one) for one in found]


def _refresh_study(tx: Transaction, study: Document, gone: tuple[int, int, int]) -> None:
    """Take the attributes of the last stored instance that is left, and go to the patient that it names."""
    last = _last(tx, {"study_id": study["_id"]})
    rows = _rows_of(tx, last["_id"])
    study["last"], study["last_seq"] = last["_id"], last["seq"]
    with_body(study, Level.STUDY, rows.study)
    study["digest"] = rows.study_digest
    old_id = study["patient_id"]
    patient = tx.one("patients", {"identity": rows.identity})
    if patient and patient["_id"] == old_id:
        tx.save("studies", study)
        leave_patient(tx, old_id, gone)
        return
    if patient is None:
        patient = _new_patient(tx.new_id(), rows.identity)
        patient["last"] = last["_id"]
        with_body(patient, Level.PATIENT, rows.patient)
    left = (1, study["k"]["00201206"], study["k"]["00201208"])
    _add(patient, left)
    tx.save("patients", patient)
    study["patient_id"] = patient["_id"]
    tx.save("studies", study)
    leave_patient(tx, old_id, (1, left[1] + gone[1], left[2] + gone[2]))
    leave_patient(tx, patient["_id"], (0, 0, 0))


def _shrink(tx: Transaction, series_id: int, number: int) -> bool:
    """Count a series down; whether that emptied it, and it is gone."""
    series = tx.one("series", {"_id": series_id})
    assert series is not None
    series["k"]["00201209"] -= number
    if series["k"]["00201209"] == 0:
        tx.drop("series", {"_id": series_id})
        return True
    if tx.one("instances", {"_id": series["last"]}) is None:
        last = _last(tx, {"series_id": series_id})
        rows = _rows_of(tx, last["_id"])
        series["last"], series["last_seq"], series["modality"] = last["_id"], last["seq"], rows.modality
        with_body(series, Level.SERIES, rows.series)
    tx.save("series", series)
    return False


def _last(tx: Transaction, where: Document) -> Document:
    found: Document | None = tx.db.instances.find_one(where, sort=[("seq", -1)], session=tx.session)
    assert found is not None
    return found
