"""Does the index say what the store holds, and the store hold what the index says? And making both agree again.

Nothing here deletes a stored object: files that no row needs are moved to the orphans folder.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from pathlib import Path

from pacs.blobs.base import BlobState, BlobStore
from pacs.dicom.header import read_header
from pacs.dicom.model import BlobRef, InstanceRecord, StoredInstance
from pacs.errors import NotFound, OutOfResources, PacsError
from pacs.index.base import Index, Put
from pacs.services.byproducts import is_byproduct
from pacs.services.delete import deletions, is_record, restorations
from pacs.services.stored_file import Sizes, record_of
from pacs.services.trash import Trash

log = logging.getLogger(__name__)

# While others may be storing: a file younger than this may be about to get its row, a half-received one may go on.
ORPHAN_AGE_S = 60.0
LEFTOVER_AGE_S = 3600.0
# A file whose storing was cut off may not be on the disk yet; the system writes what is older by itself.
_SETTLED_AGE_S = 600.0
_BATCH = 64
_KEYS = 500  # that the index is asked for at once
# A store that is far away answers many at once as fast as one.
_THREADS, _THREADS_AFAR = 4, 16

Progress = Callable[[int], None]  # so many more rows or files are done
_Listed = tuple[float, str, BlobState]  # when a file was written, its key and state


class Fault(Enum):
    """What is wrong with one row or file."""

    MISSING = "missing"  # a row whose file is not there
    SIZE = "size"  # a row whose file has another size
    DIGEST = "digest"  # a row whose file holds another data set
    UNREADABLE = "unreadable"  # a row whose file cannot be read
    ORPHAN = "orphan"  # a file that no row points at
    FOREIGN = "foreign"  # the same, and it is not DICOM, or ends early
    LEFTOVER = "leftover"  # half-received by a process that was killed


@dataclass(frozen=True, slots=True)
class Problem:
    """key: of the file; subject: SOP Instance UID, when known. repair: what was done about it, "" for nothing."""

    fault: Fault
    key: str
    subject: str = ""
    detail: str = ""
    repair: str = ""


@dataclass
class Rebuilt:
    """What a reindex came to. deleted: files left out because they were; problems: those that got no row, and why."""

    files: int = 0
    indexed: int = 0
    deleted: int = 0
    problems: list[Problem] = field(default_factory=list)


class Integrity:
    """Compares index and store. orphans: folder that files are moved to, on the store's filesystem.

    alone: no other process is in the archive, so that whatever looks unfinished is. max_inflated_bytes: as in Store.
    refusal: why ``verify`` repaired nothing though it was asked to; "" when it did.
    """

    def __init__(self, index: Index, blobs: BlobStore, orphans: Path, *, alone: bool, max_inflated_bytes: int) -> None:
        self._index = index
        self._blobs = blobs
        self._orphans = orphans
        self._alone = alone
        self._max_inflated_bytes = max_inflated_bytes
        self._threads = _THREADS if blobs.is_local else _THREADS_AFAR
        self.refusal = ""

    def verify(
        self, *, digests: bool, repair: bool, force: bool = False, progress: Progress = lambda done: None
    ) -> Iterator[Problem]:
        """All problems, as they are found.

        digests: read every stored byte; else only look whether files are there, and their sizes. repair: rows without a
        file are removed; files without a row are indexed, or moved to the orphans folder when the instance is stored
        already or they are not DICOM. A digest or size that differs is only reported. When more than half of all files
        are missing nothing is repaired, unless ``force``: that looks like another store, or one not mounted.
        """
        # Rows first: a row taken out may leave an earlier version's file, which the second pass then indexes.
        rows, missing = 0, []
        for instance, problem in self._verify_rows(digests=digests):
            rows += 1
            progress(1)
            if problem is not None and problem.fault is Fault.MISSING:
                missing.append((instance, problem))
            elif problem is not None:
                yield problem
        if repair and not force and 2 * len(missing) > rows:
            repair = False
            self.refusal = (
                f"{len(missing):,} of {rows:,} files are missing: is this the store that they were put in, and is all "
                "of it there? Nothing was repaired; --force does it all the same"
            )
        for instance, problem in missing:
            yield self._remove_row(instance, problem) if repair else problem
        yield from self._verify_files(repair=repair, progress=progress)
        yield from self._verify_incoming(repair=repair)

    def _verify_rows(self, *, digests: bool) -> Iterator[tuple[StoredInstance, Problem | None]]:
        # Of a store that is far away, one listing tells what would take a request a row.
        sizes = None if self._blobs.is_local else Sizes(self._blobs.entries())
        rows = self._index.stored()
        with ThreadPoolExecutor(self._threads, "verify") as threads:
            while batch := list(islice(rows, _BATCH)):
                checks = threads.map(lambda each: self._check(each, digests, sizes), batch)
                yield from zip(batch, checks, strict=True)

    def _check(self, instance: StoredInstance, digests: bool, sizes: Sizes | None) -> Problem | None:
        blob = instance.blob
        subject = instance.target.sop_uid or ""
        try:
            size_bytes = sizes.get(blob.key) if sizes is not None else None
            if size_bytes is None:  # or it came after the listing
                size_bytes = self._blobs.state(blob.key).size_bytes
            if size_bytes != blob.size_bytes:
                detail = f"{size_bytes} bytes, {blob.size_bytes} expected"
                return Problem(Fault.SIZE, blob.key, subject, detail)
            if digests and self._digest(blob, instance.data_set_offset) != blob.digest:
                return Problem(Fault.DIGEST, blob.key, subject, "the data set is not the one that was stored")
        except NotFound:
            # Removed between listing and looking? Then its row is gone as well.
            return Problem(Fault.MISSING, blob.key, subject) if self._index.holds_key(blob.key) else None
        except OutOfResources as error:
            return Problem(Fault.UNREADABLE, blob.key, subject, str(error))
        return None

    def _remove_row(self, instance: StoredInstance, problem: Problem) -> Problem:
        current = self._index.locate(instance.target)
        if not any(each.blob.key == instance.blob.key for each in current):
            detail = "an earlier version, superseded by one that is there" if current else "an earlier version"
            return Problem(problem.fault, problem.key, problem.subject, detail)
        self._index.remove([instance.target])
        log.warning("removed from the index, its file is missing: sop=%s key=%s", problem.subject, problem.key)
        return Problem(problem.fault, problem.key, problem.subject, problem.detail, "removed from the index")

    def _verify_files(self, *, repair: bool, progress: Progress) -> Iterator[Problem]:
        # An index from an old backup may not know of deletions; their files are no orphans all the same.
        deleted = {version.instance.blob.key for version in deletions(self._blobs)}
        entries = self._blobs.entries()
        while batch := list(islice(entries, _KEYS)):
            held = self._index.held_keys([key for key, _ in batch])
            for key, state in batch:
                progress(1)
                if key in deleted or not is_instance(key) or key in held:
                    continue
                if not self._alone and time.time() - state.changed_s < ORPHAN_AGE_S:
                    continue
                # Asked again: a row may have come since.
                if self._index.holds_key(key):
                    continue
                problem = self._orphan(key, state, repair)
                if problem is not None:
                    yield problem

    def _orphan(self, key: str, state: BlobState, repair: bool) -> Problem | None:
        """None when the file went after it was listed."""
        try:
            record = self._record(key, state)
        except NotFound:
            return None
        except OutOfResources as error:  # the store failed: that says nothing about the file
            return Problem(Fault.UNREADABLE, key, "", str(error))
        except (PacsError, OSError) as error:
            moved = self._move_aside(key) if repair else ""
            return Problem(Fault.FOREIGN, key, "", str(error), moved)
        subject = record.header.target.sop_uid or ""
        if not repair:
            return Problem(Fault.ORPHAN, key, subject)
        (result,) = self._index.put([record], durable=lambda: self._settle(key, state))
        if result.outcome is Put.STORED:
            return Problem(Fault.ORPHAN, key, subject, "", "indexed")
        same = result.outcome is Put.SAME
        detail = "the instance is stored already" if same else "the instance is stored already with other bytes"
        return Problem(Fault.ORPHAN, key, subject, detail, self._move_aside(key))

    def _verify_incoming(self, *, repair: bool) -> Iterator[Problem]:
        for path in sorted(self._blobs.incoming().iterdir()):
            if not self._alone and _age_s(path) < LEFTOVER_AGE_S:
                continue
            repaired = ""
            if repair and self._is_whole(path):
                repaired = self._move_aside(f"incoming/{path.name}", path)
            elif repair:
                path.unlink(missing_ok=True)
                repaired = "removed: it was cut short and never acknowledged"
            yield Problem(Fault.LEFTOVER, f"incoming/{path.name}", repair=repaired)

    def _is_whole(self, path: Path) -> bool:
        try:
            read_header(path, derive_uids=True, max_inflated_bytes=self._max_inflated_bytes)
        except (PacsError, OSError):
            return False
        return True

    def rebuild(
        self,
        *,
        replace: bool,
        progress: Progress = lambda done: None,
        on_listed: Progress = lambda files: None,
    ) -> Rebuilt:
        """Fill the (empty) index from the files, oldest first. replace: as the archive's policy for duplicates.

        on_listed: told how many files there are. What was deleted stays deleted. A file that cannot be indexed stays
        where it is, and is among the problems.
        """
        files = self._listed(on_listed)
        deleted = self._bury({key for _, key, _ in files}, progress)
        rebuilt = Rebuilt(len(files), deleted=len(deleted))
        known = [file for file in files if file[1] not in deleted]
        self._take_in(known, rebuilt, replace=replace, progress=progress, announce=False)
        return rebuilt

    def catch_up(
        self,
        *,
        replace: bool,
        progress: Progress = lambda done: None,
        on_listed: Progress = lambda files: None,
    ) -> Rebuilt:
        """Bring an index from a backup up to date: deletions since, then files that it does not know, oldest first.

        No file is moved or removed; what cannot be indexed is among the problems. replace, on_listed: as in
        ``rebuild``.
        """
        files = self._listed(on_listed)
        again = 0
        for version in deletions(self._blobs):
            target, key = version.instance.target, version.instance.blob.key
            if any(each.blob.key == key for each in self._index.versions(target)):
                again += 1
                self._index.delete(target, version.at)
        # And what was restored since is shown again.
        undone = restorations(self._blobs).keys() - {each.instance.blob.key for each in deletions(self._blobs)}
        if undone:
            Trash(self._index, self._blobs, max_inflated_bytes=self._max_inflated_bytes).restore_files(undone)
        buried = self._bury({key for _, key, _ in files}, lambda done: None)
        left = [file for file in files if file[1] not in buried]
        unknown: list[_Listed] = []
        for start in range(0, len(left), _KEYS):
            held = self._index.held_keys([key for _, key, _ in left[start : start + _KEYS]])
            unknown += [file for file in left[start : start + _KEYS] if file[1] not in held]
        progress(len(files) - len(unknown))
        rebuilt = Rebuilt(len(files), deleted=again)
        self._take_in(unknown, rebuilt, replace=replace, progress=progress)
        return rebuilt

    def _listed(self, on_listed: Progress) -> list[_Listed]:
        """All files that should be instances, oldest first."""
        files = sorted(
            ((state.modified_s, key, state) for key, state in self._blobs.entries() if is_instance(key)),
            key=lambda file: file[:2],
        )
        on_listed(len(files))
        return files

    def _take_in(
        self, files: list[_Listed], rebuilt: Rebuilt, *, replace: bool, progress: Progress, announce: bool = True
    ) -> None:
        """Index files in their order."""
        with ThreadPoolExecutor(self._threads, "reindex") as threads:
            for start in range(0, len(files), _BATCH):
                records = []
                batch = files[start : start + _BATCH]
                for _, key, state in batch:
                    self._settle(key, state)
                for result in threads.map(lambda file: self._record_or_problem(*file[1:]), batch):
                    progress(1)
                    if isinstance(result, Problem):
                        rebuilt.problems.append(result)
                    else:
                        records.append(result)
                puts = self._index.put(records, replace=replace, announce=announce)
                for record, put in zip(records, puts, strict=True):
                    if put.outcome in (Put.STORED, Put.REPLACED):
                        rebuilt.indexed += 1
                    else:
                        detail = "the instance is there already, in another file"
                        subject = record.header.target.sop_uid or ""
                        rebuilt.problems.append(Problem(Fault.ORPHAN, record.blob.key, subject, detail))

    def _bury(self, there: set[str], progress: Progress) -> set[str]:
        """Note all deletions anew; returns the keys of deleted files that are there."""
        versions = list(deletions(self._blobs))
        keys = {version.instance.blob.key for version in versions}
        self._index.bury(versions)
        self._index.forget(keys - there)
        progress(len(keys & there))
        return keys & there

    def _record_or_problem(self, key: str, state: BlobState) -> InstanceRecord | Problem:
        try:
            return self._record(key, state)
        except (PacsError, OSError) as error:
            return Problem(Fault.FOREIGN, key, "", str(error))

    def _settle(self, key: str, state: BlobState) -> None:
        if time.time() - state.changed_s < _SETTLED_AGE_S:
            with suppress(NotFound):  # removed meanwhile
                self._blobs.settle([key])

    def _record(self, key: str, state: BlobState) -> InstanceRecord:
        return record_of(self._blobs, key, state, max_inflated_bytes=self._max_inflated_bytes)

    def _move_aside(self, key: str, path: Path | None = None) -> str:
        """path: of a file that is not in the store under this key."""
        destination = self._orphans / key
        destination.parent.mkdir(parents=True, exist_ok=True)
        number = 0
        while destination.exists():
            number += 1
            destination = (self._orphans / key).with_name(f"{Path(key).name}.{number}")
        if path is not None:
            path.rename(destination)
        else:
            blob = BlobRef(key, self._blobs.state(key).size_bytes, "")
            with self._blobs.local(blob) as local:
                local.rename(destination)
            if destination.stat().st_size != blob.size_bytes:
                raise OutOfResources("a file could not be moved to the orphans folder whole")
            # A local file is gone, and this only takes folders away that are empty now.
            self._blobs.delete(blob)
        log.warning("moved to the orphans folder: key=%s", key)
        return "moved to the orphans folder"

    def _digest(self, blob: BlobRef, offset: int) -> str:
        digest = hashlib.sha256()
        for piece in self._blobs.stream(blob, offset):
            digest.update(piece)
        return f"sha256:{digest.hexdigest()}"


def is_instance(key: str) -> bool:
    """Whether a file under this key should be an instance, going by its name."""
    return not is_record(key) and not is_byproduct(key)


def count(problems: list[Problem]) -> dict[str, int]:
    """How many of each fault, by its name."""
    return dict(Counter(problem.fault.value for problem in problems))


def _age_s(path: Path) -> float:
    """Since the file was last written or renamed: taking a file into the store is a rename."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return 0.0
    return time.time() - max(state.st_mtime, state.st_ctime)
