"""What a study's document is listed by: its words, the keys of orders, modalities of its series, and its labels.

``w``: words, and what the first one to three characters of each are, so that few letters, which find a good part of all
studies, ask for one value of an index. ``s``: keys of orders (``listing``), absent without value. ``m``: modalities of
series as they are, "" for none. ``labels``: from the study's record; absent when it bears none.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Collection, Iterator
from typing import Any

import orjson
from bson.regex import Regex
from pymongo import UpdateOne

from pacs.dicom.attributes import BY_TAG
from pacs.dicom.model import Level
from pacs.index.listing import LABELS, SOURCES, begins, listing
from pacs.index.mongo_documents import Document
from pacs.index.mongo_tables import Tables

log = logging.getLogger(__name__)

_SHORT = 3
_MADE_FROM = ("k", "p", "labels", "modalities")
_PAGE = 200
_REPORT_S = 10.0


def keep_listed(before: Document | None, study: Document) -> None:
    """List a study anew when something that this is made from has changed."""
    if before is None or "w" not in study or any(before.get(name) != study.get(name) for name in _MADE_FROM):
        study.update(fields_of(study))


def fields_of(study: Document) -> Document:
    keys = {Level.STUDY: study["k"], Level.PATIENT: study.get("p", {}).get("k", {})}
    values = {tag: keys[BY_TAG[tag].level].get(tag, ()) for tag in SOURCES}
    found = listing(values, study.get("labels", ()))
    short = {word[:length] for word in found.words for length in range(1, _SHORT + 1)}
    return {
        "w": sorted(short.union(found.words)),
        "s": {name: key for name, key in found.keys.items() if key is not None},
        "m": [name for name, _ in study["modalities"]],
    }


def on_words(text: str) -> Iterator[Document]:
    """A filter for each word of a text."""
    for begin in begins(text):
        yield {"w": begin if len(begin) <= _SHORT else {"$regex": Regex(f"^{re.escape(begin)}")}}


def labels_of(tables: Tables, study_uids: Collection[str], session: Any = None) -> dict[str, list[str]]:
    """From the records; studies without labels are left out."""
    where = {"_id": {"$in": [f"{LABELS}\\{uid}" for uid in study_uids]}}
    found = tables["records"].find(where, {"key": 1, "content": 1}, session=session)
    return {one["key"]: orjson.loads(bytes(one["content"])) for one in found}


def fill_listing(tables: Tables) -> None:
    """Schema 4. May be cut off and run again.

    Nodes of an older version may be at work meanwhile: what has changed since it was read is read again.
    """
    done, told = 0, time.monotonic()
    fields = dict.fromkeys(("k", "p.k", "modalities", "rev"), 1)
    while page := list(tables["studies"].find({"w": None}, fields).limit(_PAGE)):
        tables.renew_lease()
        labels = labels_of(tables, [one["_id"] for one in page])
        writes = []
        for one in page:
            own: Document = {"labels": labels[one["_id"]]} if one["_id"] in labels else {}
            change = {**own, **fields_of({**one, **own}), "rev": random.getrandbits(62)}
            writes.append(UpdateOne({"_id": one["_id"], "rev": one["rev"]}, {"$set": change}))
        done += tables["studies"].bulk_write(writes, ordered=False).modified_count
        if time.monotonic() - told > _REPORT_S:
            told = time.monotonic()
            log.info("studies are made ready to be listed studies=%d", done)
