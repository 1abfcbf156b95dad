"""Blobs as plain files below one folder, readable by anyone with a shell."""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from types import TracebackType

from pacs.blobs.base import IDENTITY_KEY, BlobHead, BlobState, checked, identity_file, read_identity
from pacs.blobs.early_writing import start_writing
from pacs.dicom.model import BlobRef
from pacs.errors import Corrupt, NotFound, OutOfResources, PacsError

PIECE_BYTES = 1 << 20
_KNOWN_FOLDERS = 4096
_ATTEMPTS = 5
_SYNCED_TOGETHER = 64


class FilesystemBlobs:
    """Files under ``root``; what is being received lies in ``incoming``, on the same filesystem."""

    is_local = True

    def __init__(self, root: Path, incoming: Path) -> None:
        self._root = root
        self._prefix = f"{root.as_posix().rstrip('/')}/"
        self._incoming = incoming
        # Folders that exist and whose entries in their parents are on disk. Only a short cut: a folder that vanished is
        # noticed when the rename fails.
        self._durable_folders: set[str] = set()
        self._lock = threading.Lock()
        with _translated("the data folder cannot be written"):
            root.mkdir(parents=True, exist_ok=True)
            incoming.mkdir(parents=True, exist_ok=True)
            if root.stat().st_dev != incoming.stat().st_dev:
                raise OutOfResources("the incoming folder has to be on the same filesystem as the store")

    def incoming(self) -> Path:
        return self._incoming

    def adopt(self, path: Path, key: str, digest: str = "") -> None:
        with _translated("the file could not be stored"):
            # Whole before it has its name: of a single file nothing is gained by the other order.
            _fsync(path)
        self.place(path, key)
        with _translated("the file could not be stored"):
            _fsync(self._path(key).parent)

    def place(self, path: Path, key: str, digest: str = "") -> None:
        destination = self._name(key)
        folder = destination.rpartition("/")[0]
        with _translated("the file could not be stored"):
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    # Under the lock, so that delete() cannot remove the emptied folder between the two steps.
                    with self._lock:
                        if folder not in self._durable_folders:
                            self._make_durable_folder(Path(folder))
                        # Not by Path, which costs as much as the call.
                        if os.path.exists(destination):  # noqa: PTH110
                            raise Corrupt("a stored file would have been overwritten")
                        # Atomic: the key names either nothing or the whole file.
                        os.rename(path, destination)  # noqa: PTH104
                    break
                except FileNotFoundError:
                    # Another process removed the folder, or it was known here and is gone.
                    self._durable_folders.clear()
                    if attempt == _ATTEMPTS:
                        raise

    def settle(self, keys: Sequence[str]) -> None:
        names = [self._name(key) for key in keys]
        folders = dict.fromkeys(name.rpartition("/")[0] for name in names)
        with _translated("the file could not be stored"):
            # After the rename: the journal of most filesystems then takes bytes and name in one turn.
            if len(names) == 1:
                _fsync(names[0])
            else:
                for part in range(0, len(names), _SYNCED_TOGETHER):
                    _fsync_all(names[part : part + _SYNCED_TOGETHER])
            for folder in folders:
                _fsync(folder)

    def read(self, ref: BlobRef, offset: int = 0, length: int | None = None) -> bytes:
        wanted = ref.size_bytes - offset if length is None else length
        with _translated("the stored file could not be read"):
            file = os.open(self._name(ref.key), os.O_RDONLY)
            try:
                pieces = []
                while wanted > 0 and (piece := os.pread(file, wanted, offset)):
                    pieces.append(piece)
                    offset += len(piece)
                    wanted -= len(piece)
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            finally:
                os.close(file)

    def stream(
        self, ref: BlobRef, offset: int = 0, length: int | None = None, *, at_once: bool = False
    ) -> Iterator[bytes]:
        wanted = ref.size_bytes - offset if length is None else length
        with _translated("the stored file could not be read"):
            file = os.open(self._name(ref.key), os.O_RDONLY)
            try:
                while wanted > 0 and (piece := os.pread(file, min(wanted, PIECE_BYTES), offset)):
                    offset += len(piece)
                    wanted -= len(piece)
                    yield piece
            finally:
                os.close(file)

    def local(self, ref: BlobRef) -> AbstractContextManager[Path]:
        return nullcontext(self._path(ref.key))

    def head(self, ref: BlobRef, length: int) -> BlobHead:
        return BlobHead(self.read(ref, 0, length), "")

    def state(self, key: str) -> BlobState:
        with _translated("the stored file could not be looked at"):
            found = self._path(key).stat()
        return BlobState(found.st_size, found.st_mtime, max(found.st_mtime, found.st_ctime))

    def delete(self, ref: BlobRef) -> None:
        path = self._path(ref.key)
        with _translated("the stored file could not be removed"):
            path.unlink(missing_ok=True)
            folder = path.parent
            with self._lock:
                while folder != self._root:
                    try:
                        folder.rmdir()
                    except OSError:  # not empty, or gone already
                        break
                    self._durable_folders.discard(str(folder))
                    folder = folder.parent
            with suppress(FileNotFoundError):
                _fsync(folder)

    def entries(self, folder: str = "") -> Iterator[tuple[str, BlobState]]:
        for key in self.keys(folder):
            with suppress(NotFound):  # removed meanwhile
                yield key, self.state(key)

    def keys(self, folder: str = "") -> Iterator[str]:
        with _translated("the store could not be listed"):
            for path, folders, files in os.walk(self._path(folder) if folder else self._root):
                folders.sort()
                for name in sorted(files):
                    key = Path(path, name).relative_to(self._root).as_posix()
                    if key != IDENTITY_KEY:
                        yield key

    def identity(self) -> str | None:
        with suppress(NotFound), _translated("the store's identity cannot be read"):
            return read_identity((self._root / IDENTITY_KEY).read_bytes())
        return None

    def identify(self, name: str) -> str:
        part = self._incoming / f"{secrets.token_hex(12)}.identity"
        with _translated("the store's identity cannot be written"):
            try:
                part.write_bytes(identity_file(name))
                _fsync(part)
                self._publish(part, self._root / IDENTITY_KEY)
            finally:
                part.unlink(missing_ok=True)
            _fsync(self._root)
        return self.identity() or name

    def free_bytes(self) -> int | None:
        # Asked for every object: not by shutil and a Path, which cost more than the call.
        with _translated("the data folder cannot be read"):
            found = os.statvfs(self._prefix)
            return found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Nothing is held between calls."""

    def _publish(self, part: Path, path: Path) -> None:
        """Give a file a second name, unless another file has it already."""
        try:
            # Atomic, and never over another, as a rename would be.
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            if not path.exists():  # a filesystem without links
                part.rename(path)

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    def _name(self, key: str) -> str:
        """The path of every object that is stored, without the price of a Path."""
        return f"{self._prefix}{checked(key)}"

    def _make_durable_folder(self, folder: Path) -> None:
        missing = []
        while folder != self._root and str(folder) not in self._durable_folders:
            missing.append(folder)
            folder = folder.parent
        for child in reversed(missing):
            # Synced even when it exists: another process may have made it and not have synced it yet.
            child.mkdir(exist_ok=True)
            _fsync(child.parent)
        if len(self._durable_folders) > _KNOWN_FOLDERS:
            self._durable_folders.clear()
        self._durable_folders.update(map(str, missing))


def _fsync(path: str | Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _fsync_all(names: Sequence[str]) -> None:
    with ExitStack() as opened:
        files = []
        for name in names:
            files.append(os.open(name, os.O_RDONLY))
            opened.callback(os.close, files[-1])
            # Of all before the first is waited for: the disk then has them at once, and the journal takes fewer turns.
            start_writing(files[-1])
        for file in files:
            os.fsync(file)


class _translated:
    """A context whose OSErrors become the archive's. Not a generator: it is entered several times for every object."""

    __slots__ = ("_message",)

    def __init__(self, message: str) -> None:
        self._message = message

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, OSError) or isinstance(error, PacsError):
            return
        if isinstance(error, FileNotFoundError):
            raise NotFound("the stored file is not there") from error
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise OutOfResources(f"{self._message}: {'the disk is full' if full else reason}") from error
