"""What those who look after the archive see of it over HTTP, put together from settings and archive."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pacs import __version__
from pacs import settings as all_settings
from pacs.archive import Archive
from pacs.conformance.sections import as_text
from pacs.journal import Journal
from pacs.services.growth import Growth
from pacs.services.holdings import Holdings
from pacs.services.jobs import Handler
from pacs.services.presence import Presence
from pacs.settings import Settings
from pacs.web import about, log, manual, storage, system
from pacs.web.additions import Addition


class Operating:
    """Of one server process. health: what is wrong, one sentence each; may block.

    additions: for the web server. handlers: for the runner of jobs.
    """

    def __init__(self, settings: Settings, archive: Archive, health: Callable[[], Sequence[str]]) -> None:
        self._settings = settings
        self._health = health
        self._growth = Growth(archive.index)
        self._holdings = Holdings(archive.index)
        self._presence = Presence(archive.index.work, {"version": __version__})
        self.handlers: list[Handler] = [
            *self._growth.handlers,
            *self._holdings.handlers,
        ]
        disk = partial(_disk, archive.data_folder, settings.min_free_bytes)
        is_allowed = settings.is_administered
        self.additions: list[Addition] = [
            storage.addition(storage.Storage(self._holdings, self._growth, disk) if is_allowed else None),
            system.addition(system.System(self._state, partial(_described, settings)) if is_allowed else None),
            log.addition(Journal(log_folder(settings)) if is_allowed else None),
            about.addition(partial(as_text, settings)),
            manual.addition(),
        ]

    def start(self) -> None:
        self._growth.begin()
        self._holdings.begin()
        self._presence.start()

    def stop(self) -> None:
        self._presence.stop()

    def _state(self) -> dict[str, Any]:
        settings, now = self._settings, datetime.now(UTC)
        return {
            "version": __version__,
            "now": now.isoformat(),
            "aeTitle": settings.dimse_ae_title,
            "host": socket.gethostname(),
            "index": f"MongoDB {settings.mongodb_name}" if settings.mongodb_hosts else "SQLite",
            "store": settings.dicom_store_url or str(settings.dicom_store_rootpath),
            "processes": self._presence.processes(now),
            "problems": list(self._health()),
        }


def log_folder(settings: Settings) -> Path:
    """Where the log's last lines are kept. Nodes of a cluster may share the data folder, and have one each in it."""
    folder = settings.dicom_store_rootpath / "log"
    return folder / socket.gethostname() if settings.mongodb_hosts else folder


def _disk(folder: Path, reserve_bytes: int) -> Mapping[str, Any]:
    try:
        found = shutil.disk_usage(folder)
    except OSError:
        return {
            "folder": str(folder),
            "total": None,
            "used": None,
            "free": None,
            "reserve": reserve_bytes,
        }
    return {
        "folder": str(folder),
        "total": found.total,
        "used": found.used,
        "free": found.free,
        "reserve": reserve_bytes,
    }


def _described(settings: Settings) -> list[dict[str, Any]]:
    """Each with its section, value, default and meaning, in the order of the template."""
    found = []
    for name, value in all_settings.effective(settings).items():
        section, description, expected, _, default = all_settings.describe(name)
        found.append(
            {
                "name": name,
                "section": section,
                "value": value,
                "default": default,
                "description": description,
                "expected": expected,
            }
        )
    return found
