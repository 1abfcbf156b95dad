"""The settings of who may do what over HTTP: accounts, sessions, and those who are not known."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, SecretStr

from pacs.setting_kinds import TEXT, Lower, Seconds, setting


class AccessSettings(BaseModel):
    allow_anonymous: Annotated[Literal["", "reader", "writer", "true", "false"], Lower] = setting(
        "",
        "Access",
        "What those may do who do not log in (docs/security.md). Not set: everything on this machine itself as long as "
        "there are no accounts, and nothing once there are, or from elsewhere. reader: view. writer: view and change. "
        "true: as writer, and all on this machine; DIMSE is open too. false: nothing.",
        "reader, writer, true or false",
        "reader",
    )
    admin_password: SecretStr = setting(
        SecretStr(""),
        "Access",
        "Password of the first account, admin, which is made when the server starts and there is none.",
        TEXT,
        "a long passphrase",
    )
    session_hours: Seconds = setting(
        12.0, "Access", "How long a log-in of the web page holds at most.", "hours, more than 0", "8"
    )
    session_idle_minutes: Seconds = setting(
        60.0, "Access", "How long the page may do nothing before one has to log in again.", "minutes, more than 0", "15"
    )
    server_session_secret_key: SecretStr = setting(
        SecretStr(""),
        "Access",
        "Goes into the signature of session cookies, beside a secret that the archive makes itself: another value ends "
        "all sessions. Nodes of a cluster need the same.",
        TEXT,
        "a long random text",
    )

    @property
    def session_times(self) -> tuple[timedelta, timedelta]:
        """Longest, and idle."""
        return timedelta(hours=self.session_hours), timedelta(minutes=self.session_idle_minutes)
