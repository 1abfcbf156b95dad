"""``pacs log``: the log file, filtered, and what comes to it; without one, what is kept for the web page."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from pacs.cli import console
from pacs.errors import Invalid, OutOfResources
from pacs.journal import Journal, Wanted
from pacs.log_file import lines_backwards
from pacs.logs import Line, parse
from pacs.operating import log_folder

_NOTES = """\
Where no LOG_FILE is written, lines are those that the server keeps for its web page (LOG_KEPT_BYTES).

Lines of a trace belong to the line before them. --id is the X-Request-ID of an answer, or the id= at the end of a
line: it shows everything that happened because of one association or request, jobs and their attempts included.

examples:
  pacs log                          the last 20 lines
  pacs log -f --level warning       follow what goes wrong
  pacs log --id 5f0c21d9a7be -n 0   all of one request
  pacs log --text "from=CT1" --json
"""
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_LOOK_S = 0.25
_AT_ONCE = 1000  # lines

Keeps = Callable[[Line], bool]


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "log",
        help="show and follow the log file",
        description="Show the end of the log, files that were rotated included, and follow it.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--file", metavar="PATH", help="another log file than LOG_FILE")
    parser.add_argument(
        "-n", "--lines", metavar="N", type=_count, default=20, help="the last N that match (20); 0: all"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    parser.add_argument("--level", choices=_LEVELS, default="debug", help="only those at least so severe")
    parser.add_argument("--id", metavar="ID", help="only those of one association or request")
    parser.add_argument("--text", help="only those that hold this, in any case")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    path = Path(arguments.file) if arguments.file else None
    if path is None:
        settings = console.load_settings(log_level="ERROR")
        path = settings.log_file
        if path is None:
            if not settings.log_kept_bytes:
                raise Invalid("no log is kept: set LOG_FILE or LOG_KEPT_BYTES, or say --file", "LOG_FILE")
            return _run_journal(log_folder(settings), arguments)
    if not path.exists() and not arguments.follow:
        raise OutOfResources(f"{path}: there is no such file yet")
    keeps = _filter(arguments)
    show = _show_json if arguments.json else _show
    # Looked at first: what comes in between is shown once, not never.
    position = path.stat().st_size if path.exists() else 0
    for texts in _last(path, keeps, arguments.lines):
        show(texts)
    if arguments.follow:
        is_kept = False
        for text in _following(path, position):
            line = parse(text)
            is_kept = keeps(line) if line is not None else is_kept
            if is_kept:
                show([text])
    return console.OK


def _run_journal(folder: Path, arguments: argparse.Namespace) -> int:
    if not folder.is_dir() and not arguments.follow:
        raise OutOfResources(f"{folder}: there is no log yet; a server keeps one there, or in LOG_FILE")
    journal = Journal(folder)
    wanted = Wanted(arguments.level.upper(), arguments.text or "", id=arguments.id or "")
    show = _show_json if arguments.json else _show_entry
    found = journal.newest(wanted, arguments.lines)
    while True:
        for entry in found.lines:
            show([orjson.dumps(entry).decode(), *str(entry.get("exception", "")).splitlines()])
        if not arguments.follow:
            return console.OK
        if not found.more:
            time.sleep(_LOOK_S)
        found = journal.after(found.last, wanted, _AT_ONCE)


def _filter(arguments: argparse.Namespace) -> Keeps:
    least, wanted_id = _LEVELS[arguments.level], arguments.id
    text = arguments.text.casefold() if arguments.text else ""

    def keeps(line: Line) -> bool:
        return (
            _LEVELS.get(line.level.lower(), 50) >= least
            and (not wanted_id or line.correlation_id == wanted_id)
            and (not text or text in line.message.casefold() or text in line.logger.casefold())
        )

    return keeps


def _last(path: Path, keeps: Keeps, limit: int) -> list[list[str]]:
    """The last lines that are kept, oldest first, each with the lines of its trace."""
    found: list[list[str]] = []
    trace: list[str] = []
    for raw in lines_backwards(path):
        text = raw.decode("utf-8", "replace")
        line = parse(text)
        trace.append(text)
        if line is None:
            continue
        if keeps(line):
            found.append(trace[::-1])
        trace = []
        if limit and len(found) == limit:
            break
    return found[::-1]


def _following(path: Path, position: int) -> Iterator[str]:
    """Whole lines that come, also after the file was rotated."""
    rest = b""
    file = path.open("rb") if path.exists() else None
    try:
        while True:
            if file is not None:
                file.seek(position)
                data = file.read(1 << 20)
                position += len(data)
                *whole, rest = (rest + data).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in whole)
                if data:
                    continue
            is_there = path.exists()
            if is_there and (file is None or path.stat().st_ino != _inode(file)):
                if file is not None:
                    file.close()
                file, position, rest = path.open("rb"), 0, b""
            else:
                time.sleep(_LOOK_S)
    finally:
        if file is not None:
            file.close()


def _inode(file: Any) -> int:
    return os.fstat(file.fileno()).st_ino


def _show(texts: list[str]) -> None:
    print("\n".join(texts), flush=True)


def _show_entry(texts: list[str]) -> None:
    line = parse(texts[0])
    if line is not None:
        _show([line.as_text(), *texts[1:]])


def _show_json(texts: list[str]) -> None:
    line = parse(texts[0])
    if line is None:
        return
    fields: dict[str, Any] = {
        "time": line.time,
        "level": line.level,
        "logger": line.logger,
        "message": line.message,
        "id": line.correlation_id,
        "worker": line.worker,
    }
    if texts[1:]:
        fields["exception"] = "\n".join(texts[1:])
    print(orjson.dumps(fields).decode(), flush=True)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("expected a whole number")
    return int(text)
