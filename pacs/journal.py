"""The last lines of the log, in a few files that all processes of a machine write and any of them reads back.

Each line is one JSON object, as ``logs.JsonLines`` makes it, appended by one write: lines of several processes never
mix. Files are numbered; who finds the last one full begins the next and removes the oldest. Nobody waits for anybody.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pacs.logs import JsonLines

_FILES = 4
_CHECKS = 16  # looks at the size of a file while one process fills it
_CHECKED_S = 1.0  # and this often
_NAME = re.compile(r"([0-9]{8})\.jsonl")
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
LEVELS = tuple(_LEVELS)[:4]
# As ``web.server`` logs them; those that failed here, 5xx, are none of the usual ones.
_REQUEST = re.compile(r"http method=\S+ .* status=[1-4][0-9]{2} ")
_READ_AT_ONCE = 1 << 20


class JournalHandler(logging.Handler):
    """folder: made when it is not there. keep_bytes: of all files together, about. Raises OSError at the beginning."""

    stays = True  # for ``logs.configure``, when settings are read again

    def __init__(self, folder: Path, keep_bytes: int, *, worker: int | None = None) -> None:
        super().__init__()
        self.setFormatter(JsonLines(worker))
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file_bytes = max(1, keep_bytes // _FILES)
        self._descriptor = self._open()
        self._checked_s = 0.0
        self._unchecked_bytes = 0  # of this process since it last looked how full the file is

    def emit(self, record: logging.LogRecord) -> None:
        # What cannot be kept here is in the log itself; nothing that is logged may fail for it.
        try:
            # Others fill the file as well: who was quiet has to look before it writes to one that is removed.
            is_old = not 0 <= record.created - self._checked_s < _CHECKED_S
            if is_old or self._unchecked_bytes >= self._file_bytes // _CHECKS:
                self._unchecked_bytes, self._checked_s = 0, record.created
                if os.fstat(self._descriptor).st_size >= self._file_bytes:
                    full, self._descriptor = self._descriptor, self._open()
                    os.close(full)
            self._unchecked_bytes += os.write(self._descriptor, f"{self.format(record)}\n".encode())
        except OSError:
            pass
        except Exception:  # noqa: BLE001 - as logging's own handlers do
            self.handleError(record)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        super().close()

    def _open(self) -> int:
        """The last file, or the one after it when it is full."""
        numbers = _numbers(self._folder)
        last = numbers[-1] if numbers else 1
        if numbers and _path(self._folder, last).stat().st_size >= self._file_bytes:
            last += 1
        descriptor = os.open(_path(self._folder, last), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        for number in numbers:
            if number <= last - _FILES:
                _path(self._folder, number).unlink(missing_ok=True)
        return descriptor


def attach(folder: Path, keep_bytes: int, *, worker: int | None = None) -> None:
    """Keep what this process logs from now on, instead of as its parent did. keep_bytes 0: nothing is kept."""
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, JournalHandler)]:
        root.removeHandler(old)
        old.close()
    if not keep_bytes:
        return
    try:
        root.addHandler(JournalHandler(folder, keep_bytes, worker=worker))
    except OSError as error:
        logging.getLogger(__name__).warning("the log is not kept for the web page: %s", error.strerror)


@dataclass(frozen=True, slots=True)
class Lines:
    """lines: time, level, logger, message, and what else there is, oldest first. last: cursor to go on after."""

    lines: list[dict[str, Any]]
    last: str
    more: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """level: the least. text: has to be in message or logger, in whatever case. requests: those of HTTP that went
    well, too. id: of the association or request that lines are because of."""

    level: str = "DEBUG"
    text: str = ""
    requests: bool = True
    id: str = ""

    def takes(self, line: dict[str, Any]) -> bool:
        if _LEVELS.get(str(line.get("level")), 0) < _LEVELS[self.level]:
            return False
        if not self.requests and _REQUEST.match(str(line.get("message", ""))):
            return False
        if self.id and line.get("id") != self.id:
            return False
        wanted = self.text.casefold()
        return not wanted or any(
            wanted in str(line.get(name, "")).casefold() for name in ("message", "logger", "id", "exception")
        )


class Journal:
    """Reads what is kept. Safe to call from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self, wanted: Wanted, limit: int) -> Lines:
        """The last lines that are wanted. limit 0: all of them."""
        found: list[dict[str, Any]] = []
        last = ""
        for number in reversed(_numbers(self._folder)):
            data = self._read(number, 0, None)
            last = last or f"{number}-{len(data)}"
            for line in reversed(data.splitlines()):
                entry = _parsed(line)
                if entry is not None and wanted.takes(entry):
                    found.append(entry)
                    if len(found) == limit:
                        return Lines(found[::-1], last, more=False)
        return Lines(found[::-1], last, more=False)

    def after(self, cursor: str, wanted: Wanted, limit: int) -> Lines:
        """What was logged after a cursor, as far as it is still there. Raises ValueError for what is none."""
        first, offset = _place(cursor)
        found: list[dict[str, Any]] = []
        last = cursor
        for number in _numbers(self._folder):
            if number < first:
                continue
            at = offset if number == first else 0
            while data := self._read(number, at, _READ_AT_ONCE):
                for line in data.splitlines(keepends=True):
                    at += len(line)
                    entry = _parsed(line)
                    if entry is not None and wanted.takes(entry):
                        found.append(entry)
                    if len(found) == limit:
                        return Lines(found, f"{number}-{at}", more=True)
            last = f"{number}-{at}"
        return Lines(found, last, more=False)

    def _read(self, number: int, offset: int, length: int | None) -> bytes:
        """Whole lines."""
        try:
            with _path(self._folder, number).open("rb") as file:
                file.seek(offset)
                data = file.read(length) if length else file.read()
        except FileNotFoundError:
            return b""
        whole = data[: data.rfind(b"\n") + 1]
        if not whole and length and len(data) == length:  # one line longer than that
            return self._read(number, offset, length * 4)
        return whole


def _numbers(folder: Path) -> list[int]:
    return sorted(_matching(folder))


def _matching(folder: Path) -> Iterator[int]:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        matched = _NAME.fullmatch(path.name)
        if matched:
            yield int(matched[1])


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.jsonl"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except ValueError:
        return None  # a machine that lost power left half a line
    return found if isinstance(found, dict) else None


def _place(cursor: str) -> tuple[int, int]:
    if not cursor:
        return 0, 0
    matched = re.fullmatch(r"([0-9]{1,12})-([0-9]{1,18})", cursor, re.ASCII)
    if matched is None:
        raise ValueError("no cursor")
    return int(matched[1]), int(matched[2])
