"""Reading what instances hold: metadata and layouts, in their documents or, when long, packed and in pieces."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from pacs.dicom.layout import Layout
from pacs.dicom.model import Target
from pacs.errors import Corrupt
from pacs.index.base import Held
from pacs.index.mongo_documents import STORED, instance_id, stored_instance, study_of
from pacs.index.mongo_tables import Tables


def held(tables: Tables, target: Target) -> Held | None:
    """One instance, of one moment."""
    own_id = instance_id(target)
    where = {"_id": own_id, "study_uid": target.study_uid}
    document = tables["instances"].find_one(where, {**STORED, "m": 1, "l": 1})
    while document is not None:
        # Long ones lie in pieces elsewhere.
        elsewhere = [name for name in "ml" if document.get(name) is None]
        parts = {name: contents(tables, [own_id], name).get(own_id) for name in elsewhere}
        after = tables["instances"].find_one(where, {**STORED, "m": 1, "l": 1}) if elsewhere else document
        if after == document:
            metadata, layout = (document.get(name) or parts.get(name) for name in "ml")
            if metadata is None or layout is None:
                raise Corrupt("the index is damaged: contents of an instance are missing")
            return Held(stored_instance(document), Layout.from_bytes(layout), metadata)
        document = after
    return None


def contents(tables: Tables, ids: Sequence[str], name: str, session: object = None) -> dict[str, bytes]:
    """Metadata ("m") or layout ("l") of instances by id; those that are gone are left out."""
    if not ids:
        return {}
    where = {"_id": {"$in": list(ids)}, "study_uid": {"$in": sorted(set(map(study_of, ids)))}}
    found = {one["_id"]: one.get(name) for one in tables["instances"].find(where, {name: 1}, session=session)}
    for instance in [one for one, data in found.items() if data is None]:
        # In the order of their ids, which is that of the pieces.
        place = {"_id": {"$gt": f"{instance}\\{name}", "$lt": f"{instance}\\{name}~"}, "study_uid": study_of(instance)}
        pieces = tables["contents"].find(place, {name: 1}, session=session).sort("_id", 1)
        data = b"".join(piece[name] for piece in pieces)
        if data:
            found[instance] = zlib.decompress(data)
        else:
            # Removed since the instance was read.
            del found[instance]
    return found
