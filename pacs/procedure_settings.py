"""The settings of the modality worklist and of Unified Procedure Steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

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
    ups_keep_days: Annotated[float, Field(ge=0, allow_inf_nan=False)] = setting(
        30.0,
        "Worklist",
        "How long a Unified Procedure Step stays after it was completed or canceled, unless a subscriber's deletion "
        "lock holds it; and an event that its subscriber does not take.",
        "days; 0: for ever",
        "7",
    )
