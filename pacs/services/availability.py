"""Instance Availability Notification (PS3.4 R): what is told of a study, and the jobs that tell it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from pacs.dicom.model import Attributes, StoredInstance, Target
from pacs.index.base import Index
from pacs.index.work import NewJob

AVAILABILITY = "availability"  # kind of jobs; key: study and AE title
_PERFORMED_STEPS = "00081111"


def announcements(study_uid: str, ae_titles: Sequence[str]) -> list[NewJob]:
    """Jobs that tell these AEs of a study as it is when they run."""
    payload = orjson.dumps({"study": study_uid})
    return [NewJob(AVAILABILITY, f"{study_uid}\\{ae_title}", ae_title, payload) for ae_title in ae_titles]


def study_of(payload: bytes) -> str:
    """Study Instance UID of such a job."""
    found: str = orjson.loads(payload)["study"]
    return found


def notification(index: Index, study_uid: str, ae_title: str) -> dict[str, Any] | None:
    """Attributes of the N-CREATE (PS3.4 Table R.3.2-1); None when the study is gone. ae_title: to retrieve from."""
    by_series: dict[str, list[StoredInstance]] = {}
    for instance in index.locate(Target(study_uid)):
        by_series.setdefault(instance.target.series_uid or "", []).append(instance)
    if not by_series:
        return None
    series = [
        {
            "00081199": {"vr": "SQ", "Value": [_available(each, ae_title) for each in instances]},
            "0020000E": {"vr": "UI", "Value": [series_uid]},
        }
        for series_uid, instances in by_series.items()
    ]
    return {
        _PERFORMED_STEPS: {"vr": "SQ", "Value": _performed_step(index, [each[0] for each in by_series.values()])},
        "00081115": {"vr": "SQ", "Value": series},
        "0020000D": {"vr": "UI", "Value": [study_uid]},
    }


def _available(instance: StoredInstance, ae_title: str) -> dict[str, Any]:
    return {
        "00080054": {"vr": "AE", "Value": [ae_title]},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00081150": {"vr": "UI", "Value": [instance.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [instance.target.sop_uid]},
    }


def _performed_step(index: Index, of_series: Sequence[StoredInstance]) -> list[Attributes]:
    """The performed procedure step that all series name; none when they name none, or several."""
    found: set[tuple[str, str]] = set()
    for instance in of_series:
        held = index.held(instance.target)
        steps = orjson.loads(held.metadata).get(_PERFORMED_STEPS, {}).get("Value") or [{}] if held else [{}]
        found.update((_uid(step, "00081150"), _uid(step, "00081155")) for step in steps)
    if len(found) != 1 or not all(next(iter(found))):
        return []
    ((sop_class_uid, sop_uid),) = found
    return [
        {
            "00081150": {"vr": "UI", "Value": [sop_class_uid]},
            "00081155": {"vr": "UI", "Value": [sop_uid]},
            "00404019": {"vr": "SQ"},
        }
    ]


def _uid(item: Attributes, tag: str) -> str:
    values = item.get(tag, {}).get("Value") or [""]
    return str(values[0] or "")
