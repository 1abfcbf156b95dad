"""Keys of a Mongo index made anew: when the table of attributes has changed, or an older version's lack some."""

from __future__ import annotations

import logging
import random
import time
from typing import Any

import orjson
from pymongo import UpdateOne

from pacs.dicom.model import Level
from pacs.index.mongo_contents import contents
from pacs.index.mongo_documents import (
    PARTS,
    STORED,
    Document,
    add_parts,
    body,
    image_fields,
    stored_instance,
    study_of,
    with_lists,
)
from pacs.index.mongo_listing import fields_of
from pacs.index.mongo_tables import Tables
from pacs.index.parts import PARTED
from pacs.index.rows import Rows, rows_of

log = logging.getLogger(__name__)

_PAGE = 200
_REPORT_S = 10.0


def backfill(tables: Tables) -> None:
    """Make every document's keys and ready JSON again; counters, order and UIDs stay. May be cut off and run again."""
    total, done, told = tables["instances"].estimated_document_count(), 0, time.monotonic()
    last = ""
    while True:
        where = {"_id": {"$gt": last}}
        page = list(tables["instances"].find(where, STORED).sort("_id", 1).limit(_PAGE))
        if not page:
            break
        last = page[-1]["_id"]
        tables.renew_lease()
        rows = _rows(tables, page)
        tables["instances"].bulk_write(
            [
                UpdateOne(
                    {"_id": one["_id"], "study_uid": study_of(one["_id"])},
                    {"$set": image_fields(rows[one["_id"]], one["transfer_syntax_uid"])},
                )
                for one in page
            ]
        )
        done += len(page)
        if time.monotonic() - told > _REPORT_S:
            told = time.monotonic()
            log.info("index keys made anew instances=%d of=%d", done, total)
    # Patients first: studies carry them.
    for level, name in ((Level.PATIENT, "patients"), (Level.STUDY, "studies"), (Level.SERIES, "series")):
        _backfill_level(tables, level, name)


def fill_parts(tables: Tables) -> None:
    """Schema 3: the parts of patients' names. May be cut off and run again.

    Nodes of an older version may be at work meanwhile: what has changed since it was read is read again.
    """
    for name, field in (("patients", "k"), ("studies", "p.k")):
        last, done, told = "", 0, time.monotonic()
        where = {f"{field}.{PARTS}": None}
        fields = {f"{field}.{PARTED}": 1, "rev": 1}
        while page := list(tables[name].find({**where, "_id": {"$gte": last}}, fields).sort("_id", 1).limit(_PAGE)):
            last = page[0]["_id"]
            tables.renew_lease()
            writes = []
            for one in page:
                keys = (one["p"] if name == "studies" else one)["k"]
                add_parts(keys)
                change = {f"{field}.{PARTS}": keys[PARTS], "rev": random.getrandbits(62)}
                writes.append(UpdateOne({"_id": one["_id"], "rev": one["rev"]}, {"$set": change}))
            done += tables[name].bulk_write(writes, ordered=False).modified_count
            if time.monotonic() - told > _REPORT_S:
                told = time.monotonic()
                log.info("names are made searchable by their parts %s=%d", name, done)


def _backfill_level(tables: Tables, level: Level, name: str) -> None:
    last = ""
    while page := list(tables[name].find({"_id": {"$gt": last}}).sort("_id", 1).limit(_PAGE)):
        last = page[-1]["_id"]
        tables.renew_lease()
        ids = [one["last"] for one in page]
        instances = list(
            tables["instances"].find({"_id": {"$in": ids}, "study_uid": {"$in": list(map(study_of, ids))}}, STORED)
        )
        rows = _rows(tables, instances)
        patients: dict[str, Document] = {}
        if level is Level.STUDY:
            wanted = {"_id": {"$in": [one["patient"] for one in page]}}
            patients = {one["_id"]: one for one in tables["patients"].find(wanted)}
        writes: list[Any] = []
        for one in page:
            if one["last"] not in rows:
                continue
            fields = _fields(level, one, rows[one["last"]], patients)
            where = {"_id": one["_id"]}
            if level is Level.SERIES:
                where["study_uid"] = one["study_uid"]
            writes.append(UpdateOne(where, {"$set": {**fields, "rev": random.getrandbits(62)}}))
        if writes:
            tables[name].bulk_write(writes)


def _fields(level: Level, document: Document, rows: Rows, patients: dict[str, Document]) -> Document:
    row = {Level.PATIENT: rows.patient, Level.STUDY: rows.study, Level.SERIES: rows.series}[level]
    fields = body(level, row)
    if level is Level.STUDY:
        study = {**document, **fields}
        with_lists(study)
        patient = patients[document["patient"]]
        fields["k"] = study["k"]
        fields["study_digest"] = rows.study_digest
        fields["p"] = {name: patient[name] for name in ("f", "r", "d", "k")}
        fields.update(fields_of({**document, **fields}))
    return fields


def _rows(tables: Tables, documents: list[Document]) -> dict[str, Rows]:
    metadata = contents(tables, [one["_id"] for one in documents], "m")
    found = {}
    for document in documents:
        one = stored_instance(document)
        whole = orjson.loads(metadata[document["_id"]])
        found[document["_id"]] = rows_of(whole, one.target, one.sop_class_uid, one.transfer_syntax_uid)
    return found
