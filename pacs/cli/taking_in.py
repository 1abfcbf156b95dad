"""What ``reindex``, ``restore`` and ``verify`` share: comparing the files with an index, and taking them in."""

from __future__ import annotations

import sys

from pacs.blobs.base import BlobStore
from pacs.cli import console
from pacs.index.base import Index
from pacs.services.integrity import Integrity, Rebuilt
from pacs.settings import Settings


def integrity_of(settings: Settings, index: Index, blobs: BlobStore, *, alone: bool) -> Integrity:
    return Integrity(
        index,
        blobs,
        settings.dicom_store_rootpath / "orphans",
        alone=alone,
        max_inflated_bytes=settings.max_inflated_bytes,
    )


def take_in(
    settings: Settings, index: Index, blobs: BlobStore, title: str, *, only_missing: bool, show_progress: bool
) -> Rebuilt:
    """Index all files, or those that the index does not know. Nobody else may be at work. title: of the bar."""
    integrity = integrity_of(settings, index, blobs, alone=True)
    with console.progress(title, None, show=show_progress) as bar:
        work = integrity.catch_up if only_missing else integrity.rebuild
        return work(
            replace=settings.duplicates == "replace",
            progress=lambda done: bar.advance(bar.task_ids[0], done),
            on_listed=lambda files: bar.update(bar.task_ids[0], total=files),
        )


def problems_of(rebuilt: Rebuilt) -> list[dict[str, str]]:
    """For ``--json``."""
    return [{"key": problem.key, "detail": problem.detail} for problem in rebuilt.problems]


def print_problems(rebuilt: Rebuilt) -> None:
    for problem in rebuilt.problems:
        print(f"{problem.key}: {problem.detail}", file=sys.stderr)
