"""The documents above a row of the Mongo index: its series, study and patient."""

from __future__ import annotations

from collections.abc import Sequence

from pacs.dicom.model import Level
from pacs.index.mongo_conditions import Filter
from pacs.index.mongo_documents import COLLECTIONS, Document, RowMaker, study_of
from pacs.index.mongo_tables import Tables

WITHOUT_KEYS = {"k": 0, "p.k": 0}


def by_ids(level: Level, ids: Sequence[str]) -> Filter:
    where: Filter = {"_id": {"$in": list(ids)}}
    if level > Level.STUDY:
        # Which shards to ask.
        where["study_uid"] = {"$in": sorted({study_of(one) for one in ids})}
    return where


def chains_of(
    tables: Tables, level: Level, maker: RowMaker, documents: Sequence[Document]
) -> list[dict[Level, Document] | None]:
    """Each row's document and those above it that are needed; None when one of them is gone."""
    above: dict[Level, dict[str, Document]] = {}
    if Level.SERIES in maker.needs:
        above[Level.SERIES] = _read(tables, Level.SERIES, {one["series_id"] for one in documents})
    studies: dict[str, Document] = {}
    if level > Level.STUDY and maker.needs & {Level.STUDY, Level.PATIENT}:
        studies = _read(tables, Level.STUDY, {one["study_uid"] for one in documents})
    if Level.PATIENT in maker.needs:
        holding = documents if level is Level.STUDY else list(studies.values())
        above[Level.PATIENT] = _read(tables, Level.PATIENT, {one["patient"] for one in holding})
    chains: list[dict[Level, Document] | None] = []
    for document in documents:
        chain: dict[Level, Document | None] = {level: document}
        if level > Level.STUDY and studies:
            chain[Level.STUDY] = studies.get(document["study_uid"])
        if Level.SERIES in above:
            chain[Level.SERIES] = above[Level.SERIES].get(document["series_id"])
        if Level.PATIENT in above:
            study = chain.get(Level.STUDY)
            chain[Level.PATIENT] = above[Level.PATIENT].get(study["patient"]) if study else None
        chains.append(None if None in chain.values() else chain)  # type: ignore[arg-type]  # no None among them
    return chains


def _read(tables: Tables, level: Level, ids: set[str]) -> dict[str, Document]:
    if not ids:
        return {}
    found = tables[COLLECTIONS[level]].find(by_ids(level, sorted(ids)), WITHOUT_KEYS)
    return {one["_id"]: one for one in found}
