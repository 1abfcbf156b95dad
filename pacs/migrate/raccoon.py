"""A raccoon-dicom installation taken over in place: its files become this archive's, without being copied.

What is in a file decides which instance it is; raccoon's database only says which of them were deleted, and where files
ought to be. Nothing of raccoon's is changed. Any number of runs come to the same end: what an earlier one took over is
known by its key.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from stat import S_ISREG

from pacs.blobs.base import BlobStore
from pacs.dicom.model import Caller, StoredInstance
from pacs.errors import Invalid, NotStorable, OutOfResources, PacsError, Unreadable
from pacs.index.base import Index
from pacs.migrate.plan import Document, Fate, Pass, Plan
from pacs.migrate.workers import run_batches
from pacs.services.adopt import Adopt, Examined, How
from pacs.services.byproducts import is_byproduct
from pacs.services.delete import Delete, deletions, is_record

CALLER = Caller("pacs migrate raccoon", "", "cli")
# A server beside us may be about to write the row of a file that young.
_SETTLED_S = 60.0
# How keys of our own end; those of raccoon's files that look the same only wait a minute, too.
_OWN_KEY = re.compile(r"-[0-9a-f]{12}\.dcm\Z")
_OWN_FOLDERS = frozenset({"incoming", "orphans", "migrations"})
_BATCH = 16
_NOTE_BATCH = 512
_FATES = {
    How.IN_PLACE: Fate.IN_PLACE,
    How.LINKED: Fate.LINKED,
    How.COPIED: Fate.COPIED,
    How.RENEWED: Fate.RENEWED,
    How.CONFLICT: Fate.CONFLICT,
}


@dataclass(frozen=True, slots=True)
class Options:
    """orphans: take in files that no document names, too. dry_run: read headers, change nothing."""

    orphans: bool = False
    dry_run: bool = False
    threads: int = 4


class Takeover:
    """One run. store: raccoon's DICOM_STORE_ROOTPATH; data_folder: this archive's, which may be the same."""

    def __init__(
        self,
        plan: Plan,
        adopt: Adopt,
        index: Index,
        blobs: BlobStore,
        delete: Delete,
        store: Path,
        data_folder: Path,
        options: Options,
    ) -> None:
        self._plan = plan
        self._adopt = adopt
        self._index = index
        self._blobs = blobs
        self._delete = delete
        self._store = store
        self._data_folder = data_folder
        self._options = options
        self._lock = threading.Lock()  # guards what is to be noted
        self._to_note: list[StoredInstance] = []
        self.byproducts = 0

    def prepare(self, documents: Iterable[Document]) -> int:
        """Read the documents and list the files; returns how many files there are to look at.

        Raises Invalid when the store is not there.
        """
        if not self._store.is_dir():
            raise Invalid(f"there is no folder {self._store}", "--store")
        self._plan.add_documents(documents)
        self._plan.add_held((stored.blob.key, stored.target) for stored in self._index.stored())
        self._plan.add_noted((version.instance.blob.key, version.instance.target) for version in deletions(self._blobs))
        self._plan.add_unnamed(self._walk())
        return self._plan.queued()

    def run(self, progress: Callable[[int], None] = lambda done: None) -> None:
        """Take all files over. Raises OutOfResources as soon as the archive cannot take more."""
        for order in Pass:
            run_batches(
                self._plan.paths(order),
                partial(self._take, order=order),
                threads=self._options.threads,
                batch=_BATCH,
                progress=progress,
            )
        self._note(at_least=1)

    def _walk(self) -> Iterator[str]:
        """Files below the store, relative; this archive's own, and what raccoon made from others, left out."""
        same = self._store.resolve() == self._data_folder.resolve()
        for folder, folders, files in os.walk(self._store):
            here = Path(folder).relative_to(self._store)
            if same and here == Path():
                folders[:] = [name for name in folders if name not in _OWN_FOLDERS]
                files = []  # index, lock
            folders[:] = sorted(name for name in folders if not is_record(f"{name}/"))
            for name in sorted(files):
                path = (here / name).as_posix()
                if is_byproduct(path):
                    self.byproducts += 1
                else:
                    yield path

    def _take(self, paths: list[str], order: Pass) -> None:
        """Settle a batch of files, each by itself."""
        wanted: list[tuple[str, Examined, str]] = []
        for path in paths:
            examined = self._examine(path, order)
            if examined is not None:
                wanted.append((path, examined, _key(path)))
        if not wanted:
            return
        results = self._adopt.take([(examined, key) for _, examined, key in wanted])
        for (path, examined, _), result in zip(wanted, results, strict=True):
            target = examined.header.target
            if isinstance(result, OutOfResources):
                raise result
            if isinstance(result, PacsError):
                self._plan.settle(path, Fate.REFUSED, target, str(result))
                continue
            if result is How.SAME:
                self._settle_same(path, examined)
            else:
                self._plan.settle(path, _FATES[result], target)
                if result is How.RENEWED:
                    self._hide(examined)

    def _examine(self, path: str, order: Pass) -> Examined | None:
        """The file, when it is to be taken; else it is settled here."""
        plan = self._plan
        place = self._store / path
        try:
            path.encode()
            key = self._adopt.key_of(place) if path else None
            if self._is_known(path, place, key, order):
                return None
            state = place.stat()
            if not path or not S_ISREG(state.st_mode):
                raise FileNotFoundError
            if order is Pass.UNNAMED and key is not None and self._is_arriving(key, state.st_ctime):
                return None
            examined = self._adopt.examine(place, digest=not self._options.dry_run)
        except FileNotFoundError:
            if order is not Pass.UNNAMED:
                plan.settle(path, Fate.MISSING)
            return None
        except UnicodeEncodeError:
            plan.settle(path, Fate.UNREADABLE, None, "the file's name is not UTF-8")
            return None
        except OSError as error:
            plan.settle(path, Fate.UNREADABLE, None, error.strerror or type(error).__name__)
            return None
        except PacsError as error:
            is_other = order is Pass.UNNAMED and isinstance(error, Unreadable | NotStorable) and not _is_part10(place)
            plan.settle(path, Fate.OTHER if is_other else Fate.UNREADABLE, None, str(error))
            return None
        return examined if self._is_wanted(path, examined, order) else None

    def _is_known(self, path: str, place: Path, key: str | None, order: Pass) -> bool:
        """Settle what an earlier run, or somebody else meanwhile, has dealt with: no byte of it is read."""
        plan = self._plan
        if (target := plan.held(key or _key(path))) is not None:
            if key is None and not self._adopt.is_ours(place, _key(path)):
                return False
            if key is None or order is not Pass.UNNAMED:  # else it is any other file of this archive's own
                plan.settle(path, Fate.SHOWN if plan.is_deleted(target) else Fate.ALREADY, target)
            return True
        if key is None or (target := plan.noted(key)) is None:
            return False
        if plan.is_deleted(target):
            plan.settle(path, Fate.SOFT_DELETED, target)
        elif self._index.locate(target):
            # The first: its instance is there by a copy, with renewed meta information.
            plan.settle(path, Fate.ALREADY if plan.claim(target) else Fate.DUPLICATE, target)
        else:
            plan.settle(path, Fate.DELETED_HERE, target)
        return True

    def _is_arriving(self, key: str, changed_s: float) -> bool:
        is_young = time.time() - changed_s < _SETTLED_S and _OWN_KEY.search(key) is not None
        return is_young or self._index.holds_key(key)

    def _is_wanted(self, path: str, examined: Examined, order: Pass) -> bool:
        plan, target = self._plan, examined.header.target
        is_deleted = plan.is_deleted(target)
        if is_deleted:
            plan.settle(path, Fate.SOFT_DELETED, target)
            self._hide(examined)
            return False
        known = self._index.locate(target)
        if not known and examined.key is None and plan.noted(_key(path)) == target:
            plan.settle(path, Fate.DELETED_HERE, target)
            return False
        if is_deleted is None and not self._options.orphans and not plan.is_named_live(path):
            if self._options.dry_run and not (known or plan.claim(target)):
                plan.settle(path, Fate.DUPLICATE, target)
            elif known and known[0].blob.digest == examined.digest:
                self._settle_same(path, examined)
            else:
                plan.settle(path, Fate.ORPHAN, target)
            return False
        if self._options.dry_run:
            how = self._adopt.planned(examined)
            if not plan.claim(target):
                plan.settle(path, Fate.DUPLICATE, target)
            else:
                plan.settle(path, _FATES.get(how, Fate.ALREADY), target)
            return False
        return True

    def _settle_same(self, path: str, examined: Examined) -> None:
        """The instance is in the archive with these bytes: by another file of raccoon's, or in another way."""
        first = self._plan.claim(examined.header.target)
        self._plan.settle(path, Fate.ALREADY if first else Fate.DUPLICATE, examined.header.target)
        self._hide(examined)

    def _hide(self, examined: Examined) -> None:
        """Put a file of this store on record as deleted: verify and reindex would bring it back, or stumble on it."""
        if examined.key is None or self._options.dry_run or self._index.holds_key(examined.key):
            return
        with self._lock:
            self._to_note.append(examined.instance)
        self._note(at_least=_NOTE_BATCH)

    def _note(self, *, at_least: int) -> None:
        with self._lock:
            if len(self._to_note) < at_least:
                return
            versions, self._to_note = self._to_note, []
        self._delete.note(versions, CALLER)


def _key(path: str) -> str:
    """The key of a file that is linked or copied: as raccoon had it, without the folder that all of them are in."""
    return path.removeprefix("files/")


def _is_part10(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
