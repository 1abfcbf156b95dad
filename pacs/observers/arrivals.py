"""From a job back to the instance that it is about."""

from __future__ import annotations

from typing import Any

import orjson

from pacs.dicom.model import StoredInstance, Target
from pacs.index.base import Index
from pacs.index.work import Job


def payload(job: Job) -> dict[str, Any]:
    found = orjson.loads(job.payload)
    return found if isinstance(found, dict) else {}


def target(job: Job) -> Target:
    found = payload(job)
    return Target(found["study"], found.get("series"), found.get("sop"))


def stored(index: Index, job: Job) -> StoredInstance | None:
    """The version that the job was made for; None when it is not the current one any more: that has its own jobs."""
    key = payload(job)["key"]
    return next((instance for instance in index.locate(target(job)) if instance.blob.key == key), None)
