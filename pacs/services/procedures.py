"""What the archive knows of examinations besides images: planned, performed, and whether all of it has arrived."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pacs.index.base import Index
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
        cls, index: Index, *, folder: Path | None = None, quiet_s: float = 120.0, is_followed: bool = False
    ) -> Self:
        """folder: of worklist files. quiet_s, is_followed: see ``Completeness``."""
        worklist = Worklist(index.work, WorklistFolder(folder) if folder is not None else None)
        completeness = Completeness(index, quiet_s, is_followed=is_followed)
        return cls(worklist, PerformedSteps(index.work, worklist, completeness), completeness)
