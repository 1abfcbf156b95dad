"""The setting of the full viewer."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from pacs.setting_kinds import setting


class ViewerSettings(BaseModel):
    viewer_folder: Path | None = setting(
        None,
        "Server",
        "Where `pacs viewer install` puts the full viewer (OHIF), and the web server has it from. Without it: the "
        "folder viewer in DICOM_STORE_ROOTPATH.",
        "a path",
        "/opt/viewer",
    )
