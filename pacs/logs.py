"""How log lines look, and which libraries may speak. UIDs and AE titles as key=value; never patient names or IDs."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import TextIO

import orjson

# Their DEBUG and INFO lines repeat every PDU and request, and DEBUG ones show data sets.
_QUIET = ("pynetdicom", "pydicom", "aiohttp.access", "asyncio", "PIL")


def configure(
    level: str = "INFO", form: str = "text", stream: TextIO | None = None, *, worker: int | None = None
) -> None:
    """Send the log to ``stream`` (stderr). level: DEBUG, INFO, WARNING or ERROR; form: text or json.

    worker: number of this process where several write to the same log; it is in every line.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(worker) if form == "json" else TextLines(worker))
    root = logging.getLogger()
    for old in list(root.handlers):
        if not getattr(old, "stays", False):  # what is kept for the web page is no matter of these settings
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.captureWarnings(True)
    # No line says where in the code it was written, by which thread or process: not to be found out for each.
    logging._srcfile = None  # as the logging HOWTO has it, "Optimization"
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class TextLines(logging.Formatter):
    """``2026-01-31T12:00:00.123Z INFO pacs.services.store stored sop=1.2.3``; a message never breaks its line.

    Of worker 2: ``2026-01-31T12:00:00.123Z [2] INFO …``.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = "" if worker is None else f"[{worker}] "

    def format(self, record: logging.LogRecord) -> str:
        # A peer's bytes may be in the message: they must not forge a line of their own.
        message = record.getMessage()
        if not message.isprintable():
            message = "".join(char if char.isprintable() else _escape(char) for char in message)
        line = f"{_timestamp(record)} {self._worker}{record.levelname} {record.name} {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One JSON object a line: time, worker if several, level, logger, message and, for errors, exception."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _timestamp(record),
            **self._worker,
            "level": record.levelname,
            "logger": record.name,
            "message": _encodable(record.getMessage()),
        }
        if record.exc_info:
            fields["exception"] = _encodable(self.formatException(record.exc_info))
        return orjson.dumps(fields).decode()


def _timestamp(record: logging.LogRecord) -> str:
    second = int(record.created)
    return f"{_second(second)}.{int((record.created - second) * 1000):03d}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()


def _encodable(text: str) -> str:
    # Lone surrogates, from undecodable file names, are no UTF-8.
    return text.encode("utf-8", "backslashreplace").decode()
