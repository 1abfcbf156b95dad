"""The contract of a blob store. Every store passes ``tests/contracts/blob_contract.py`` unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import orjson

from pacs.dicom.model import BlobRef
from pacs.errors import Corrupt

# Where a store's identity is written down, beside its files. Never listed, adopted or deleted as one of them.
IDENTITY_KEY = ".pacs-store.json"


@dataclass(frozen=True, slots=True)
class BlobState:
    """modified_s: when its bytes were last written; changed_s: when it came under its key. Seconds since 1970."""

    size_bytes: int
    modified_s: float
    changed_s: float


@dataclass(frozen=True, slots=True)
class BlobHead:
    """data: how a file begins. digest: what was said of the file when it was adopted, "" when that is not known."""

    data: bytes
    digest: str


class BlobStore(Protocol):
    """Immutable files under keys. Safe to call from any thread.

    Raises OutOfResources for a full, read-only or failing device, NotFound for a key that is not there.
    """

    def incoming(self) -> Path:
        """Local folder for files being received, from which ``adopt`` is cheap (a rename where the store is local)."""

    def adopt(self, path: Path, key: str, digest: str = "") -> None:
        """Take over a local file as ``key``: durable when it returns, and ``path`` is gone.

        digest: of its data set, noted with the file where the store can. Never overwrites: raises Corrupt when the key
        exists, and leaves both files as they are.
        """

    def place(self, path: Path, key: str, digest: str = "") -> None:
        """As ``adopt``, but durable only after ``settle``: after a power cut part of the file may be missing."""

    def settle(self, keys: Sequence[str]) -> None:
        """Make files that were placed durable. Raises OutOfResources; the files stay, and nothing is known of them."""

    def read(self, ref: BlobRef, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of the range; shorter only at the end of the file."""

    def stream(
        self, ref: BlobRef, offset: int = 0, length: int | None = None, *, at_once: bool = False
    ) -> Iterator[bytes]:
        """The range in pieces of at most 1 MiB; opens the file at the first piece, and raises what is wrong there.

        at_once: a store that is far away begins to read now, so that several streams can be on their way.
        """

    def local(self, ref: BlobRef) -> AbstractContextManager[Path]:
        """The whole file where any process of this machine may open it, in a ``with``; not to be written to.

        The file itself where it is local, else a copy, which goes afterwards. Either may be renamed, and is the
        caller's then.
        """

    def head(self, ref: BlobRef, length: int) -> BlobHead:
        """The first bytes of a file, fewer only when it is shorter, and its digest; one request where that counts."""

    @property
    def is_local(self) -> bool:
        """Whether files lie on this machine, so that opening one costs nothing."""

    def state(self, key: str) -> BlobState:
        """Size and age as the store has them now."""

    def delete(self, ref: BlobRef) -> None:
        """Remove the file; nothing happens when it is already gone. Empty folders go too."""

    def entries(self, folder: str = "") -> Iterator[tuple[str, BlobState]]:
        """All keys with size and age, in no particular order, incoming files left out.

        folder: only those below "folder/". No request is made for each key.
        """

    def keys(self, folder: str = "") -> Iterator[str]:
        """The keys alone."""

    def identity(self) -> str | None:
        """What this store was named by ``identify``; None when it never was."""

    def identify(self, name: str) -> str:
        """Name the store, durably and once: returns the name that it has now, which may be somebody else's."""

    def free_bytes(self) -> int | None:
        """Space left for files being received and for the store, None when that cannot be told."""

    def close(self) -> None: ...


def checked(key: str) -> str:
    """The key. Raises Corrupt for one that leads out of the store, or is not a file's."""
    if not key or key.startswith("/") or any(part in ("", ".", "..") for part in key.split("/")):
        raise Corrupt("a file key leads out of the store")
    if key == IDENTITY_KEY:
        raise Corrupt("this file key is the store's own")
    return key


def identity_file(name: str) -> bytes:
    """What is written under IDENTITY_KEY."""
    return orjson.dumps({"store": name, "since": datetime.now(UTC).isoformat(timespec="seconds")}) + b"\n"


def read_identity(content: bytes) -> str:
    """The name in it. Raises Corrupt."""
    try:
        name = orjson.loads(content)["store"]
    except (ValueError, KeyError, TypeError):
        name = None
    if not isinstance(name, str) or not name:
        raise Corrupt(f"the store's identity file {IDENTITY_KEY} cannot be read")
    return name
