"""The settings of storage commitment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel

from pacs.setting_kinds import SECONDS, Lower, Seconds, SecondsOrNever, setting


class CommitmentSettings(BaseModel):
    commitment_verify: Annotated[Literal["digest", "presence"], Lower] = setting(
        "digest",
        "DIMSE",
        "What is looked at before storage commitment is given. digest: each stored file is read and compared with what "
        "was received; presence: index, file and size.",
        "digest or presence",
        "presence",
    )
    commitment_wait_s: SecondsOrNever = setting(
        15.0,
        "DIMSE",
        "How long a peer may take to rest on the association on which it asked for storage commitment; after that it "
        "is told on a new one.",
        "seconds; 0: always on a new one",
        "0",
    )
    commitment_again_s: Seconds = setting(
        21600.0,
        "DIMSE",
        "How long a peer's storage commitment is waited for before it is asked again.",
        SECONDS,
        "3600",
    )
    commitment_keep_days: Seconds = setting(
        30.0, "DIMSE", "How long storage commitment, asked for and given, can be looked up.", "days, more than 0", "365"
    )
