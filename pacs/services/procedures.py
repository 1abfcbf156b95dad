"""What the archive knows of examinations besides images: planned, performed, and whether all of it has arrived."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pacs.index.base import Index
from pacs.index.work import Work
from pacs.services.completeness import Completeness
from pacs.services.performed import PerformedSteps
from pacs.services.worklist import Worklist
from pacs.services.worklist_folder import WorklistFolder


@dataclass(frozen=True, slots=True)
class Procedures:
    worklist: Worklist
    performed: PerformedSteps
    completeness: Completeness

    @classmethod
    def over(
        cls,
        index: Index,
        work: Work | None = None,
        *,
        folder: Path | None = None,
        quiet_s: float = 120.0,
        is_followed: bool = False,
    ) -> Self:
        """work: in place of the index's own. folder: of worklist files. quiet_s, is_followed: see ``Completeness``."""
        work = work or index.work
        worklist = Worklist(work, WorklistFolder(folder) if folder is not None else None)
        completeness = Completeness(index, quiet_s, is_followed=is_followed)
        return cls(worklist, PerformedSteps(work, worklist, completeness), completeness)
