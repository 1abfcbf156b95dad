"""The settings of how long things are kept, and of who hears that there is no room for more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator

from pacs.setting_kinds import Address, SecondsOrNever, listed, setting


class KeepingSettings(BaseModel):
    retention: Path | None = setting(
        None,
        "Keeping",
        "File of retention rules: which studies are deleted when they are old, or the archive is large; "
        "`pacs retention test` says which that are now. Without it nothing is ever deleted by itself.",
        "a path",
        "config/retention.toml",
    )
    purge_after_days: SecondsOrNever = setting(
        0.0,
        "Keeping",
        "How long after a deletion its files are removed for good by the server itself; until then it can be undone.",
        "days; 0: never, only by `pacs purge`",
        "30",
    )
    alert_webhooks: Annotated[tuple[Address, ...], BeforeValidator(listed)] = setting(
        (),
        "Keeping",
        "Who is told by a POST when the disk is full, and when it has room again.",
        "http or https addresses, between commas or as a JSON array",
        "https://monitor.example/pacs",
    )
