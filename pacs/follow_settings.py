"""The settings of what follows a store: rules, jobs, webhooks and the change feed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, SecretStr

from pacs.setting_kinds import SECONDS, TEXT, Address, AETitle, Seconds, SecondsOrNever, listed, setting

_ADDRESSES = "http or https addresses, between commas or as a JSON array"


class FollowSettings(BaseModel):
    rules: Path | None = setting(
        None,
        "Follow-up",
        "File of forwarding rules: what is sent, told, labelled or deleted after it has been stored; "
        "`pacs rules test FILE` tries it.",
        "a path",
        "config/rules.toml",
    )
    study_quiet_s: Seconds = setting(
        60.0, "Follow-up", "How long nothing of a study has arrived when it counts as settled.", SECONDS, "300"
    )
    ian_aes: Annotated[tuple[AETitle, ...], BeforeValidator(listed)] = setting(
        (),
        "Follow-up",
        "Peers that are told of each study that is complete, or quiet, and of what arrives for it later (Instance "
        "Availability Notification).",
        "AE titles, between commas or as a JSON array",
        "RIS,WORKFLOW",
    )
    jobs_give_up_days: Seconds = setting(
        7.0,
        "Follow-up",
        "How long a job that fails is tried, ever more seldom, before it is given up; `pacs jobs` shows those.",
        "days, more than 0",
        "30",
    )
    webhook_secret: SecretStr = setting(
        SecretStr(""),
        "Follow-up",
        "Signs what webhooks are told: X-Pacs-Signature is the HMAC-SHA-256 of X-Pacs-Timestamp, a dot and the body.",
        TEXT,
        "a long random text",
    )
    changes_webhooks: Annotated[tuple[Address, ...], BeforeValidator(listed)] = setting(
        (),
        "Follow-up",
        "Where all changes (GET /changes) are posted, in order. A new address is told what changes from then on.",
        _ADDRESSES,
        "https://ris.example/dicom-changes",
    )
    changes_keep_days: SecondsOrNever = setting(
        90.0, "Follow-up", "How long changes can be read back.", "days; 0: for ever", "30"
    )
