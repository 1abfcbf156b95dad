"""The contract of a blob store. Every store passes ``tests/contracts/blob_contract.py`` unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pacs.dicom.model import BlobRef


@dataclass(frozen=True, slots=True)
class BlobState:
    """modified_s: when its bytes were last written; changed_s: when it came under its key. Seconds since 1970."""

    size_bytes: int
    modified_s: float
    changed_s: float


class BlobStore(Protocol):
    """Immutable files under keys. Safe to call from any thread.

    Raises OutOfResources for a full, read-only or failing device, NotFound for a key that is not there.
    """

    def incoming(self) -> Path:
        """Local folder for files being received, from which ``adopt`` is cheap (a rename where the store is local)."""

    def adopt(self, path: Path, key: str) -> None:
        """Take over a local file as ``key``: durable when it returns, and ``path`` is gone.

        Never overwrites: raises Corrupt when the key exists, and leaves both files as they are.
        """

    def read(self, ref: BlobRef, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of the range; shorter only at the end of the file."""

    def stream(self, ref: BlobRef, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The range in pieces of at most 1 MiB; opens the file at the first piece."""

    def local_path(self, ref: BlobRef) -> Path | None:
        """Where another process of this machine may open the file, or None when it is not a local file."""

    def state(self, key: str) -> BlobState:
        """Size and age as the store has them now."""

    def delete(self, ref: BlobRef) -> None:
        """Remove the file; nothing happens when it is already gone. Empty folders go too."""

    def keys(self) -> Iterator[str]:
        """All keys, in no particular order, incoming files left out."""

    def free_bytes(self) -> int | None:
        """Space left, None when the store cannot tell."""

    def close(self) -> None: ...
