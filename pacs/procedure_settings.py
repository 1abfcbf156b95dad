"""The settings of the modality worklist."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from pacs.setting_kinds import setting


class ProcedureSettings(BaseModel):
    worklist_folder: Path | None = setting(
        None,
        "Worklist",
        "Folder of further worklist items, one .wl file each, as DCMTK's wlmscpfs takes them: those in a subfolder are "
        "for modalities that call its name as the AE title, those in the folder itself for all. Read again when a file "
        "changes.",
        "a path",
        "/var/lib/worklist",
    )
