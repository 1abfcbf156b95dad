"""How log lines look, where they go, and which libraries may speak.

UIDs and AE titles as key=value; never patient names or IDs. ``id=`` at the end of a line names the association or HTTP
request that it is because of (``pacs.correlation``); ``parse`` reads lines of either form back.
"""

from __future__ import annotations

import logging
import re
import sys
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TextIO

import orjson

from pacs import correlation
from pacs.errors import Invalid
from pacs.log_file import FileHandler, SharedFile

# Their DEBUG and INFO lines repeat every PDU and request, and DEBUG ones show data sets.
_QUIET = ("pynetdicom", "pydicom", "aiohttp.access", "asyncio", "PIL", "opentelemetry")
_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT[\d:.]+Z) (?:\[(?P<worker>\d+)\] )?(?P<level>[A-Z]+) (?P<logger>\S+) (?P<message>.*?)"
    r"(?: id=(?P<id>[A-Za-z0-9._:-]{1,64}))?"
)


@dataclass(frozen=True, slots=True)
class LogFile:
    """max_bytes: it is rotated when it is larger, 0: never. keep: rotated files."""

    path: Path
    max_bytes: int = 0
    keep: int = 5


@dataclass(frozen=True, slots=True)
class Line:
    """One log line. time: ISO 8601, UTC. worker: 0 where there is one process only. correlation_id: "" for none."""

    time: str
    level: str
    logger: str
    message: str
    correlation_id: str = ""
    worker: int = 0

    def as_text(self) -> str:
        """As ``TextLines`` writes it."""
        worker = f"[{self.worker}] " if self.worker else ""
        cause = f" id={self.correlation_id}" if self.correlation_id else ""
        return f"{self.time} {worker}{self.level} {self.logger} {_printable(self.message)}{cause}"


def configure(
    level: str = "INFO",
    form: str = "text",
    stream: TextIO | None = None,
    *,
    worker: int | None = None,
    file: LogFile | None = None,
) -> None:
    """Send the log to ``stream`` (stderr) and to a file. level: DEBUG, INFO, WARNING or ERROR; form: text or json.

    worker: number of this process where several write to the same log; it is in every line. Raises Invalid when the
    file cannot be opened.
    """
    formatter = JsonLines(worker) if form == "json" else TextLines(worker)
    handlers: list[logging.Handler] = [logging.StreamHandler(stream or sys.stderr)]
    root = logging.getLogger()
    if file is not None:
        # The one that is there already goes on: another thread may be about to write to it.
        known = [one for one in root.handlers if isinstance(one, FileHandler) and one.file.is_at(*astuple(file))]
        try:
            handlers += known or [FileHandler(SharedFile(file.path, file.max_bytes, file.keep))]
        except OSError as error:
            raise Invalid(f"LOG_FILE={file.path} cannot be written: {error.strerror}", "LOG_FILE") from error
    for handler in handlers:
        handler.setFormatter(formatter)
    for old in list(root.handlers):
        # What is kept for the web page is no matter of these settings.
        if old in handlers or getattr(old, "stays", False):
            continue
        root.removeHandler(old)
        if isinstance(old, FileHandler):
            old.close()
    for handler in handlers:
        root.addHandler(handler)  # once, however often
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.captureWarnings(True)
    # No line says where in the code it was written, by which thread or process: not to be found out for each.
    logging._srcfile = None  # as the logging HOWTO has it, "Optimization"
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def reopen() -> None:
    """Go on in the file that LOG_FILE names now: somebody has moved the other one (SIGHUP)."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, FileHandler):
            handler.file.reopen()


def parse(line: str) -> Line | None:
    """A line of the log, of either form; None for what is none, such as a line of a trace."""
    if line.startswith("{"):
        try:
            found = orjson.loads(line)
            time, level, logger, message = (str(found[name]) for name in ("time", "level", "logger", "message"))
            return Line(time, level, logger, message, str(found.get("id", "")), int(found.get("worker", 0)))
        except (ValueError, KeyError, TypeError):
            return None
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    time, worker, level, logger, message, correlation_id = match.groups()
    return Line(time, level, logger, message, correlation_id or "", int(worker or 0))


class TextLines(logging.Formatter):
    """``2026-01-31T12:00:00.123Z INFO pacs.services.store stored sop=1.2.3 id=5f0c21d9a7be``, always one line.

    Of worker 2: ``2026-01-31T12:00:00.123Z [2] INFO …``. Without ``id=`` where nobody asked for what happens.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = "" if worker is None else f"[{worker}] "

    def format(self, record: logging.LogRecord) -> str:
        # A peer's bytes may be in the message: they must not forge a line of their own.
        message = _printable(record.getMessage())
        cause = f" id={correlation_id}" if (correlation_id := correlation.current()) else ""
        line = f"{_timestamp(record)} {self._worker}{record.levelname} {record.name} {message}{cause}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One JSON object a line: time, worker if several, level, logger, message, id and, for errors, exception."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, str | int] = {
            "time": _timestamp(record),
            **self._worker,
            "level": record.levelname,
            "logger": record.name,
            "message": _encodable(record.getMessage()),
        }
        if correlation_id := correlation.current():
            fields["id"] = correlation_id
        if record.exc_info:
            fields["exception"] = _encodable(self.formatException(record.exc_info))
        return orjson.dumps(fields).decode()


def _timestamp(record: logging.LogRecord) -> str:
    second = int(record.created)
    return f"{_second(second)}.{int((record.created - second) * 1000):03d}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _printable(message: str) -> str:
    if message.isprintable():
        return message
    return "".join(char if char.isprintable() else _escape(char) for char in message)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()


def _encodable(text: str) -> str:
    # Lone surrogates, from undecodable file names, are no UTF-8.
    return text.encode("utf-8", "backslashreplace").decode()
