"""What the archive holds of each modality, counted some studies at a time, in the Mongo index."""

from __future__ import annotations

from collections import defaultdict

from pacs.index.base import Usage, UsagePage
from pacs.index.mongo_tables import Tables


def page(tables: Tables, after: str, studies: int) -> UsagePage:
    """See ``Index.usage``."""
    found = tables["studies"].find({"_id": {"$gt": after}}, {"_id": 1}).sort("_id", 1).limit(studies)
    uids = [one["_id"] for one in found]
    if not uids:
        return UsagePage({}, None)
    within = {"study_uid": {"$in": uids}}
    series = {one["_id"]: one for one in tables["series"].find(within, {"study_uid": 1, "modality": 1})}
    groups = tables["instances"].aggregate(
        [
            {"$match": within},
            {"$group": {"_id": "$series_id", "instances": {"$sum": 1}, "size_bytes": {"$sum": "$size_bytes"}}},
        ]
    )
    sums: defaultdict[str, Usage] = defaultdict(Usage)
    seen: set[tuple[str, str]] = set()
    for group in groups:
        one = series.get(group["_id"])
        if one is None:  # came, or went, between the two looks
            continue
        key = (one["study_uid"], one["modality"] or "")
        sums[key[1]] += Usage(int(key not in seen), 1, int(group["instances"]), int(group["size_bytes"]))
        seen.add(key)
    return UsagePage(dict(sums), uids[-1] if len(uids) == studies else None)
