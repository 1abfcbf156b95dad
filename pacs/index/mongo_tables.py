"""Collections of the Mongo index: their names, indexes, versions, and how they are sharded.

Every entity is one document whose ``_id`` is made of its UIDs (``mongo_documents``), so that an entity cannot be there
twice, whichever nodes store it. All collections of one index carry the number of its generation: a rebuilt index grows
beside the old one and takes its place by one change of ``meta``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bson.codec_options import CodecOptions
from pymongo import ASCENDING, IndexModel, MongoClient, ReadPreference
from pymongo.database import Database
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from pacs.dicom.attributes import ALL
from pacs.dicom.model import Level
from pacs.errors import Corrupt, OutOfResources
from pacs.index.listing import INSTANCES, KEYS
from pacs.index.mongo_documents import COLLECTIONS, PARTS, Document, field_of
from pacs.index.parts import PARTED

log = logging.getLogger(__name__)

SCHEMA = 4
GROUPS = 32  # documents that the archive's totals are spread over
_ARCHIVE = "archive"
# Every instance of a series would go to another place of these indexes, and nobody asks for them without a series, a
# study or a date, which lead there sooner. Alone they go through all instances.
_WITHIN = frozenset({"00200013", "00080032", "00080033"})
_KEYS_WITH_ORDER = ("00100010", "00100020", "00080020", "00080050")
_COMPRESSED = {"wiredTiger": {"configString": "block_compressor=zstd"}}
_BIG = ("studies", "series", "instances", "contents")
_OTHER = ("patients", "superseded", "deleted", "added", "totals", "settings")
# What no rebuilt index makes anew: the same collections for all generations.
_LASTING = ("jobs", "changes", "records", "counters")
_MIGRATION_LEASE_S = 60


Step = Callable[["Tables"], None]


class Tables:
    """The collections of one generation of one index, written and read with majority."""

    def __init__(self, client: MongoClient[Document], database: str, *, sharded: bool = False) -> None:
        self.client = client
        self.sharded = sharded
        self._database: Database[Document] = client.get_database(
            database,
            codec_options=CodecOptions(),
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern("majority", j=True),
            read_concern=ReadConcern("majority"),
        )
        self.meta = self._database["meta"]
        self.nodes = self._database["nodes"]
        self.generation = 1
        self._collections: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        found = self._collections.get(name)
        if found is None:
            suffix = "" if self.generation == 1 or name in _LASTING else f"_{self.generation}"
            found = self._collections[name] = self._database[f"{name}{suffix}"]
        return found

    def size_bytes(self) -> int:
        """Data and indexes as they lie on the disks of the cluster."""
        stats = self._database.command("dbStats")
        return int(stats.get("storageSize", 0) + stats.get("indexSize", 0))

    def open(self, backfill: Step, steps: Mapping[int, Step]) -> None:
        """Make, or bring up to date, what the index needs; nodes that start together take turns.

        backfill: makes all keys anew from metadata; called when the table of attributes has changed. steps: what else
        an older index lacks, by the schema that has it. Raises Corrupt for an index of a newer version, OutOfResources
        where MongoDB has no transactions.
        """
        hello = self.client.admin.command("hello")
        is_router = hello.get("msg") == "isdbgrid"
        if "setName" not in hello and not is_router:
            raise OutOfResources("MongoDB must be a replica set (one member is enough): start it with --replSet")
        if self.sharded and not is_router:
            raise OutOfResources("MONGODB_IS_SHARDING_MODE=true needs mongos as the server; this one is a replica set")
        self._set_meta({"generation": 1, "schema": 0, "attributes": ""})
        while True:
            state = self.state()
            self.generation = int(state["generation"])
            self._collections.clear()
            if state["schema"] > SCHEMA:
                raise Corrupt(f"the index is newer than this program: schema {state['schema']}, known are to {SCHEMA}")
            if (state["schema"], state["attributes"]) == (SCHEMA, _attributes()):
                return
            if self._lease():
                break
            time.sleep(0.2)
        self.create()
        if state["schema"] and state["attributes"] != _attributes():
            log.info("index keys are made anew: the table of attributes has changed")
            backfill(self)
        for number in sorted(steps):
            if 0 < state["schema"] < number:
                steps[number](self)
        self.meta.update_one(
            {"_id": _ARCHIVE},
            {"$set": {"schema": SCHEMA, "attributes": _attributes()}, "$unset": {"migrating_until": ""}},
        )

    def state(self) -> Document:
        return self.meta.find_one({"_id": _ARCHIVE}) or {}

    def renew_lease(self) -> None:
        """Long migrations say that they are still alive."""
        self.meta.update_one({"_id": _ARCHIVE}, [{"$set": {"migrating_until": _from_now(_MIGRATION_LEASE_S)}}])

    def create(self) -> None:
        """Collections, indexes and shards of this generation; nothing happens to those that are there."""
        present = set(self._database.list_collection_names())
        for name in (*_BIG, *_OTHER, *_LASTING):
            if self[name].name not in present:
                try:
                    self._database.create_collection(self[name].name, storageEngine=_COMPRESSED)
                except OperationFailure as error:
                    if error.code != _EXISTS:
                        raise
        if self.sharded:
            for name in _BIG:
                self._shard(name)
        for name in (*_BIG, *_OTHER, *_LASTING):
            models = indexes_of(name, sharded=self.sharded)
            if models:
                self[name].create_indexes(models)

    def drop(self, *, keep: Sequence[str] = ()) -> None:
        """Remove this generation's collections, but those to keep, and those of all generations."""
        for name in (*_BIG, *_OTHER):
            if name not in keep:
                self[name].drop()

    def at(self, generation: int) -> Tables:
        """The same database's collections of another generation."""
        other = Tables(self.client, self._database.name, sharded=self.sharded)
        other.generation = generation
        return other

    def take_over(self) -> None:
        """Make this generation the index, for all that open it from now on."""
        self.meta.update_one({"_id": _ARCHIVE}, {"$set": {"generation": self.generation}})

    def _set_meta(self, fresh: Document) -> None:
        self.meta.update_one({"_id": _ARCHIVE}, {"$setOnInsert": fresh}, upsert=True)

    def _lease(self) -> bool:
        free = {"$expr": {"$lt": [{"$ifNull": ["$migrating_until", 0]}, "$$NOW"]}}
        taken = self.meta.update_one(
            {"_id": _ARCHIVE, **free}, [{"$set": {"migrating_until": _from_now(_MIGRATION_LEASE_S)}}]
        )
        return bool(taken.modified_count)

    def _shard(self, name: str) -> None:
        self.client.admin.command("enableSharding", self._database.name)
        self.client.admin.command(
            "shardCollection", f"{self._database.name}.{self[name].name}", key=shard_key(name), numInitialChunks=8
        )


_EXISTS = 48


def shard_key(name: str) -> Document:
    """By study, hashed: what belongs together lies together, and studies spread evenly."""
    return {"_id" if name == "studies" else "study_uid": "hashed"}


def indexes_of(name: str, *, sharded: bool) -> list[IndexModel]:
    """All indexes of a collection but the one on ``_id``."""
    level = next((level for level, at in COLLECTIONS.items() if at == name), None)
    models = [_index(*fields) for fields in _PLAIN.get(name, ())]
    if level is None:
        if name == "deleted":
            models.append(IndexModel([("blob_key", ASCENDING)], unique=True, sparse=True))
        if name == "added":
            models.append(IndexModel([("path", ASCENDING)], unique=True))
        if name == "changes":
            models.append(IndexModel([("cursor", ASCENDING)], unique=True, sparse=True))
            models.append(IndexModel([("pending", ASCENDING), ("part", ASCENDING)], sparse=True))
        return models
    # A place in the order of first storage is one entity's. (Over shards nothing but the shard key can be unique.)
    models.append(IndexModel([("o", ASCENDING)], unique=not sharded))
    for attribute in ALL:
        if attribute.level is level or (level is Level.STUDY and attribute.level is Level.PATIENT):
            if attribute.counted and attribute.vr == "IS":
                # Counters change with every instance, and an index over them would be rewritten as often.
                continue
            field = field_of(attribute, level)
            if field == "_id" or attribute.tag in _WITHIN:
                continue
            if attribute.tag == PARTED:
                # Not sparse: what is without them is among what every search looks at (``mongo_conditions``).
                models.append(_index(field.replace(PARTED, PARTS)))
            if attribute.tag in _KEYS_WITH_ORDER:
                models.append(_index(field, "o"))
            else:
                models.append(IndexModel([(field, ASCENDING)], sparse=True))
    return models


_PLAIN: dict[str, Sequence[Sequence[str]]] = {
    "studies": (
        *(["patient"], ["w", "o"], ["labels"], ["m"]),
        *([f"s.{name}", "o"] for name in KEYS.values()),
        # Changes with every transaction, but a page in this order would go through all studies without it.
        [f"n.{INSTANCES}", "o"],
    ),
    "series": (["study_uid"], ["modality"]),
    "instances": (["series_id"], ["study_uid", "o"], ["blob_key"], ["x.p", "x.k", "x.v"]),
    "contents": (["study_uid"],),
    "superseded": (["study_uid", "series_uid", "sop_uid"], ["blob_key"]),
    "deleted": (["study_uid", "series_uid", "sop_uid"], ["at", "study_uid"]),
    "jobs": (["kind", "state", "due"], ["kind", "group", "state", "due"], ["key"]),
    "records": (["kind", "key"], ["kind", "label", "key"]),
}


def _index(*fields: str) -> IndexModel:
    # Most instances have no value under an added index.
    return IndexModel(
        [(field, ASCENDING) for field in fields], sparse=fields[0].startswith("x.") or fields == ("labels",)
    )


def _attributes() -> str:
    """Names today's table of attributes: keys made under another one are made anew."""
    return " ".join(sorted(f"{a.tag}{a.vr}{a.level}" for a in ALL if not a.counted))


def _from_now(seconds: float) -> Document:
    return {"$add": ["$$NOW", int(seconds * 1000)]}
