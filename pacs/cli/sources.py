"""Where imported objects come from: files, folders, what a DICOMDIR refers to, and the members of ZIP files."""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_HEAD_BYTES = 132
# How a data set without preamble begins: group 0002 or 0008, either byte order. All else is told apart by DICM.
_BARE_STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")


@dataclass(frozen=True, slots=True)
class Source:
    """One file on disk, or one member of the ZIP file ``path``."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A path that was named, on the command line or in a DICOMDIR, and cannot be read."""

    name: str
    reason: str


def find(paths: Iterable[Path]) -> Iterator[Source | Unavailable]:
    """Everything below ``paths``, in order of name. A DICOMDIR given by name stands for the files that it refers to;
    one met in a folder does not, as these lie in the folder too.
    """
    for path in paths:
        if path.is_dir():
            for folder, folders, files in os.walk(path):
                folders.sort()
                for name in sorted(files):
                    yield from _file(Path(folder, name))
        elif path.name.upper() == "DICOMDIR":
            yield from _referenced(path)
        else:
            yield from _file(path)


class Opener:
    """Opens sources, from any thread. Each thread keeps its last ZIP file open: its directory may be long."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._lock = threading.Lock()
        self._open: set[zipfile.ZipFile] = set()

    @contextmanager
    def open(self, source: Source) -> Iterator[IO[bytes]]:
        """Raises OSError, zipfile.BadZipFile, NotImplementedError for an unknown compression, RuntimeError for an
        encrypted member, and zlib.error.
        """
        if source.member is None:
            with source.path.open("rb") as file:
                yield file
        else:
            with self._archive(source.path).open(source.member) as file:
                yield file

    def close(self) -> None:
        """When no thread uses it any more."""
        for archive in self._open:
            archive.close()

    def _archive(self, path: Path) -> zipfile.ZipFile:
        last: zipfile.ZipFile | None = getattr(self._own, "archive", None)
        if last is not None and last.filename == str(path):
            return last
        if last is not None:
            last.close()
        self._own.archive = archive = zipfile.ZipFile(path)
        with self._lock:
            self._open = (self._open - {last}) | {archive}
        return archive


def may_be_dicom(head: bytes) -> bool:
    """Whether a file that begins like this is worth reading. head: its first 132 bytes, or all when it is shorter."""
    return head[128:132] == b"DICM" or head[:4] == b"DICM" or head[:2] in _BARE_STARTS


def is_directory(name: str) -> bool:
    """Whether a file is a DICOMDIR by its name, which the standard fixes (PS3.10 8.6)."""
    return name.replace(":", "/").rsplit("/", 1)[-1].upper() == "DICOMDIR"


def _file(path: Path) -> Iterator[Source | Unavailable]:
    if path.suffix.lower() != ".zip":
        yield Source(path) if path.exists() else Unavailable(str(path), "there is no such file")
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        yield Unavailable(str(path), str(error))
        return
    for member in sorted(members):
        yield Source(path, member)


def _referenced(directory: Path) -> Iterator[Source | Unavailable]:
    """Files that the records refer to by Referenced File ID (0004,1500), in whatever letter case the disk has them."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        records = pydicom.dcmread(directory).get("DirectoryRecordSequence") or []
        identifiers = [record.ReferencedFileID for record in records if record.get("ReferencedFileID")]
    except (OSError, InvalidDicomError, ValueError, AttributeError) as error:
        yield Unavailable(str(directory), f"not a readable DICOMDIR: {error}")
        return
    for identifier in identifiers:
        parts = [identifier] if isinstance(identifier, str) else [str(part) for part in identifier]
        path = _any_case(directory.parent, parts)
        if path is None:
            yield Unavailable(str(directory.parent.joinpath(*parts)), "the DICOMDIR refers to it, and it is not there")
        else:
            yield Source(path)


def _any_case(folder: Path, parts: list[str]) -> Path | None:
    for part in parts:
        exact = folder / part
        if part in ("", ".", "..") or "/" in part:
            return None
        if not exact.exists():
            try:
                alike = [child for child in folder.iterdir() if child.name.upper() == part.upper()]
            except OSError:
                return None
            if not alike:
                return None
            exact = alike[0]
        folder = exact
    return folder
