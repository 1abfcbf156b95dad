"""Files that another archive wrote, taken over without copying: where they lie in this store, or by a hard link.

The originals are never changed. A file whose file meta information is missing, contradicts its data set, or follows a
preamble that is not zero cannot be given back as it is: such a one is copied, with its meta information renewed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path, PurePosixPath

from pacs.blobs.base import BlobStore
from pacs.dicom.header import read_header
from pacs.dicom.model import BlobRef, Caller, Header, InstanceRecord, StoredInstance
from pacs.errors import Conflict, Corrupt, Invalid, OutOfResources, PacsError, Unreadable
from pacs.index.base import Index, Put
from pacs.services.store import Store, mended_meta

_PIECE_BYTES = 1 << 20
# No link over there: other filesystem, too many links of one file, or a filesystem without any.
_NO_LINK = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class How(Enum):
    """How an instance came into the archive."""

    IN_PLACE = "adopted in place"
    LINKED = "adopted by hard link"
    COPIED = "copied"
    RENEWED = "copied, file meta information renewed"
    SAME = "the instance was there already"
    CONFLICT = "the instance is there with other content"


@dataclass(frozen=True, slots=True)
class Examined:
    """A file that can be taken over. key: in this store, None when it lies elsewhere. fits: may stay as it is."""

    path: Path
    key: str | None
    header: Header
    digest: str
    fits: bool

    @property
    def instance(self) -> StoredInstance:
        """The file as a stored instance, if it lies in this store."""
        header, blob = self.header, BlobRef(self.key or "", self.path.stat().st_size, self.digest)
        return StoredInstance(
            header.target, header.sop_class_uid, header.transfer_syntax_uid, blob, header.data_set_offset
        )


class Adopt:
    """Takes files over. Safe to call from any thread. copy: where a hard link is not possible, copy."""

    def __init__(
        self,
        index: Index,
        blobs: BlobStore,
        store: Store,
        *,
        caller: Caller,
        copy: bool = False,
        max_inflated_bytes: int = 4 << 30,
    ) -> None:
        self._index = index
        self._blobs = blobs
        self._store = store
        self._caller = caller
        self._copy = copy
        self._max_inflated_bytes = max_inflated_bytes
        sample = _local_path(blobs, "-")
        self._roots = {sample.parent, sample.parent.resolve()} if sample is not None else set()

    def can_link(self, folder: Path) -> bool:
        """Whether files of a folder lie where this store could link to them."""
        return folder.stat().st_dev == self._blobs.incoming().stat().st_dev

    def key_of(self, path: Path) -> str | None:
        """The key that a file has in this store by where it lies; None when it lies elsewhere."""
        for root in self._roots:
            for place in (path, path.parent.resolve() / path.name):
                if place.is_relative_to(root):
                    return place.relative_to(root).as_posix()
        return None

    def is_ours(self, path: Path, key: str) -> bool:
        """Whether the file under a key is a link to, or an unchanged copy of, a file elsewhere, going by its state."""
        place = _local_path(self._blobs, key)
        try:
            if place is None:
                return False
            there, here = place.stat(), path.stat()
        except OSError:
            return False
        if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
            return True
        return (there.st_size, there.st_mtime_ns) == (here.st_size, here.st_mtime_ns)

    def examine(self, path: Path, *, digest: bool = True) -> Examined:
        """Read one file whole (digest) or its header. Raises Rejected kinds and OSError."""
        header = read_header(path, derive_uids=True, max_inflated_bytes=self._max_inflated_bytes)
        hashed = ""
        with path.open("rb") as file:
            head = file.read(header.data_set_offset)
            fits = not any(head[:128]) and mended_meta(head, header) is None
            if digest:
                file.seek(header.data_set_offset)
                hashed = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        return Examined(path, self.key_of(path), header, hashed, fits)

    def planned(self, examined: Examined) -> How:
        """What ``take`` would do, going by the UIDs alone."""
        if self._index.locate(examined.header.target):
            return How.SAME
        if not examined.fits:
            return How.RENEWED
        if examined.key is not None:
            return How.IN_PLACE
        return How.LINKED if self.can_link(examined.path) else How.COPIED

    def take(self, files: Sequence[tuple[Examined, str]]) -> list[How | PacsError]:
        """Take files over in one index transaction; durable when it returns. One result each, in order.

        The text beside each file is the key that it gets when it lies elsewhere and the key is free. What is there
        already stays, whatever the archive's policy for duplicates.
        """
        results: dict[int, How | PacsError] = {}
        records: dict[int, tuple[InstanceRecord, How]] = {}
        for position, (examined, wanted_key) in enumerate(files):
            try:
                known = self._known(examined)
                if known is not None:
                    results[position] = known
                elif not examined.fits:
                    results[position] = self._renew(examined)
                else:
                    blob, how = self._place(examined, wanted_key)
                    received_at = datetime.fromtimestamp(examined.path.stat().st_mtime, UTC)
                    records[position] = InstanceRecord(examined.header, blob, received_at, self._caller), how
            except PacsError as error:
                results[position] = error
            except OSError as error:
                reason = error.strerror or type(error).__name__
                kind = OutOfResources if error.errno in _FULL else Unreadable
                results[position] = kind(f"the file cannot be taken over: {reason}")
        placed = list(records.values())
        puts = self._index.put([record for record, _ in placed]) if placed else []
        for (position, (record, how)), put in zip(records.items(), puts, strict=True):
            if put.outcome is Put.STORED:
                results[position] = how
                continue
            results[position] = How.SAME if put.outcome is Put.SAME else How.CONFLICT
            if how is not How.IN_PLACE and not self._index.holds_key(record.blob.key):
                self._blobs.delete(record.blob)  # our link or copy, never the original
        return [results[position] for position in range(len(files))]

    def _known(self, examined: Examined) -> How | None:
        known = self._index.locate(examined.header.target)
        if not known:
            return None
        same = known[0].blob.digest == examined.digest
        return (
            How.SAME if same and known[0].transfer_syntax_uid == examined.header.transfer_syntax_uid else How.CONFLICT
        )

    def _place(self, examined: Examined, wanted_key: str) -> tuple[BlobRef, How]:
        size_bytes = examined.path.stat().st_size
        if examined.key is not None:
            return BlobRef(examined.key, size_bytes, examined.digest), How.IN_PLACE
        blob = BlobRef(wanted_key, size_bytes, examined.digest)
        there = _local_path(self._blobs, blob.key)
        if there is not None and there.exists() and there.samefile(examined.path):
            return blob, How.LINKED  # linked by a run that was interrupted before it wrote the row
        incoming = self._blobs.incoming() / f"{secrets.token_hex(12)}.part"
        try:
            how = self._link(examined.path, incoming)
            try:
                self._blobs.adopt(incoming, blob.key, blob.digest)
            except Corrupt:  # another file has this key
                path = PurePosixPath(wanted_key)
                blob = BlobRef(str(path.with_name(f"{path.stem}-{secrets.token_hex(6)}{path.suffix}")), *_rest(blob))
                self._blobs.adopt(incoming, blob.key, blob.digest)
        finally:
            incoming.unlink(missing_ok=True)
        return blob, how

    def _link(self, source: Path, destination: Path) -> How:
        try:
            os.link(source, destination)
            return How.LINKED
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            if not self._copy:
                raise Invalid("no hard link to it can be made from here; --copy copies it") from error
        shutil.copyfile(source, destination)
        with suppress(OSError):
            shutil.copystat(source, destination)
        return How.COPIED

    def _renew(self, examined: Examined) -> How | PacsError:
        with self._store.spool() as spool, examined.path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                spool.write(piece)
            try:
                stored = self._store.store(spool, self._caller, derive_uids=True)
            except Conflict:
                return How.CONFLICT
        return How.RENEWED if stored.outcome is Put.STORED else How.SAME


def _local_path(blobs: BlobStore, key: str) -> Path | None:
    """Where a file lies, or would, in a store on this machine."""
    if not blobs.is_local:
        return None
    with blobs.local(BlobRef(key, 0, "")) as path:
        return path


def _rest(blob: BlobRef) -> tuple[int, str]:
    return blob.size_bytes, blob.digest
