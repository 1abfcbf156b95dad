"""The audit trail of one server process, put together from settings and archive."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from pacs.archive import Archive
from pacs.dicom.dictionary import first_value
from pacs.dicom.matchers import UidList
from pacs.dicom.matching import Matcher, TagPath
from pacs.dicom.model import Level
from pacs.index.base import Fields, Index, Query
from pacs.observers import audit_file
from pacs.observers.audit import Audit, Write
from pacs.observers.audit_file import AuditFile, Wanted
from pacs.observers.audit_message import Source
from pacs.observers.syslog import Syslog
from pacs.services.accesses import Hear, unheard
from pacs.services.jobs import Handler
from pacs.settings import Settings
from pacs.syslog_address import parse
from pacs.watching import Watch
from pacs.web import audit as audit_resources
from pacs.web.additions import Addition


class Auditing:
    """hear: for services; it gathers from the beginning. ``start`` once the archive is open, ``stop`` before it closes.

    Raises Invalid when the file or the certificates cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._host = socket.gethostname()
        source = Source(settings.audit_source or self._host, settings.dimse_ae_title, os.getpid(), self._host)
        self._audit = Audit(source, window_s=settings.audit_window_s) if settings.is_audited else None
        self._syslog: Syslog | None = None
        self._file: AuditFile | None = None
        if settings.audit_file is not None:
            self._file = AuditFile(
                settings.audit_file,
                settings.audit_file_max_bytes,
                settings.audit_file_keep,
                is_synced=settings.audit_file_sync == "always",
            )

    @property
    def hear(self) -> Hear:
        return self._audit.hear if self._audit is not None else unheard

    @property
    def watchers(self) -> list[Watch]:
        return [self._audit.watch] if self._audit is not None else []

    def handlers(self, archive: Archive) -> list[Handler]:
        """Of the jobs that send messages on. Before ``start``."""
        settings = self._settings
        if not settings.audit_syslog:
            return []
        self._syslog = Syslog(
            archive.index.work,
            parse(settings.audit_syslog),
            host=self._host,
            ca=settings.audit_syslog_ca,
            certificate=settings.audit_syslog_certificate,
            key=settings.audit_syslog_key,
        )
        return [self._syslog.handler]

    def addition(self) -> Addition:
        path = self._settings.audit_file

        def read(wanted: Mapping[str, str], limit: int) -> tuple[list[dict[str, Any]], bool]:
            return _read(path, wanted, limit) if path is not None else ([], True)

        return audit_resources.addition(
            read if path is not None else None, self.hear, is_allowed=self._settings.is_administered
        )

    def start(self, archive: Archive) -> None:
        if self._audit is None:
            return
        writers: list[Write] = []
        if self._file is not None:
            writers.append(self._file.write)
        if self._syslog is not None:
            writers.append(self._syslog.write)
        self._audit.start(writers, lambda study_uid: _patient_of(archive.index, study_uid))

    def stop(self) -> None:
        if self._audit is not None:
            self._audit.stop()
        if self._file is not None:
            self._file.close()


def _read(path: Path, wanted: Mapping[str, str], limit: int) -> tuple[list[dict[str, Any]], bool]:
    names = {"study": "study_uid", "patient": "patient_id"}
    return audit_file.read(path, Wanted(**{names.get(name, name): value for name, value in wanted.items()}), limit)


def _patient_of(index: Index, study_uid: str) -> str:
    keys: dict[TagPath, Matcher] = {("0020000D",): UidList((study_uid,))}
    page = index.search(Query(Level.STUDY, keys, fields=Fields(tags=frozenset({"00100020"})), limit=1))
    return str(first_value(orjson.loads(page.rows[0]), "00100020") or "") if page.rows else ""
