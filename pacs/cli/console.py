"""What all commands share: reading settings, exit codes, and how things are shown on the terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pacs import logs, settings
from pacs.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress

OK = 0
FAILED = 1  # it ran, and some of it failed or a problem was found
USAGE = 2  # wrong arguments or settings; argparse uses it too
UNAVAILABLE = 3  # the archive cannot be opened or written
INTERRUPTED = 130


def load_settings(
    overrides: Mapping[str, str] | None = None,
    *,
    log_level: str | None = None,
    worker: int | None = None,
    to_file: bool = False,
) -> Settings:
    """Settings, with the log set up and warnings about them on stderr. Raises Invalid.

    log_level: of commands that show their own progress, where the log's INFO lines would only be noise. worker: number
    of this process among those of one server, of which only the parent warns. to_file: log into LOG_FILE too.
    """
    loaded = settings.load(overrides)
    file = loaded.settings.logs_to if to_file else None
    logs.configure(log_level or loaded.settings.log_level, loaded.settings.log_format, worker=worker, file=file)
    for warning in loaded.warnings if worker is None else ():
        print(f"pacs: warning: {warning}", file=sys.stderr)
    return loaded.settings


def add_data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="FOLDER", help="where data lie (DICOM_STORE_ROOTPATH)")


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """``--data`` and ``--json``."""
    add_data_option(parser)
    parser.add_argument("--json", action="store_true", help="print the result as a JSON object, and no progress")


def data_overrides(arguments: argparse.Namespace) -> dict[str, str]:
    """What ``--data`` says, as a setting."""
    return {"DICOM_STORE_ROOTPATH": str(Path(arguments.data).absolute())} if arguments.data else {}


@contextmanager
def progress(description: str, total: int | None, *, show: bool = True) -> Iterator[Progress]:
    """A bar on stderr when that is a terminal; the caller advances task 0."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not show or not sys.stderr.isatty(),
        transient=True,
    )
    with bar:
        bar.add_task(description, total=total)
        yield bar


def print_json(value: Any) -> None:
    """One JSON object, for scripts."""
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def positive(text: str) -> int:
    """An argument that is a whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("expected a whole number, 1 or more")
    return int(text)


def plural(number: int, noun: str, nouns: str = "") -> str:
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"
