"""Which index and which store the settings name, and what is done to an index as a whole.

The only module that names a backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pacs import store_options
from pacs.blobs.base import BlobStore
from pacs.blobs.cache import CachedBlobs
from pacs.blobs.filesystem import FilesystemBlobs
from pacs.errors import Invalid, OutOfResources
from pacs.index.base import Index
from pacs.index.sqlite import SqliteIndex
from pacs.index.sqlite_added import paths_in, setting_in
from pacs.index.sqlite_backup import check_index, copy_index, log_files, put_in_place, set_aside, unpack
from pacs.index.sqlite_carry import carry_over, go_on_after_backup
from pacs.index.sqlite_turn import lock_files
from pacs.mongo_settings import mongo_uri
from pacs.services import store_identity
from pacs.services.lock import ArchiveLock
from pacs.settings import Settings

if TYPE_CHECKING:
    from pacs.index.mongo import MongoIndex

INDEX_FILE = "index.sqlite"


@contextmanager
def open_index(settings: Settings, what: str, *, exclusive: bool = False) -> Iterator[Index]:
    """MongoDB's when MONGODB_HOSTS is set, else the embedded one. what, exclusive: see ``Archive.open``."""
    if settings.mongodb_hosts:
        with _mongo_index(settings, what, exclusive=exclusive) as index:
            yield index
    else:
        # Who uses the file uses the data folder, which is locked.
        with closing(SqliteIndex(settings.dicom_store_rootpath / INDEX_FILE)) as index:
            yield index


def open_blobs(settings: Settings, *, cached: bool = False) -> BlobStore:
    """The folder, or the object store when DICOM_STORE_URL is set. cached: keep copies of what is read from that."""
    folder = settings.dicom_store_rootpath
    if settings.dicom_store_url:
        try:
            # Here, not above: an archive of plain files does without it, and starts faster.
            from pacs.blobs.objectstore import ObjectStoreBlobs
        except ImportError as error:
            raise Invalid(
                "DICOM_STORE_URL is set, and obstore is not installed: pip install 'raccoon-pacs[s3]'",
                "DICOM_STORE_URL",
            ) from error
        blobs = ObjectStoreBlobs(
            settings.dicom_store_url,
            folder / "incoming",
            store_options.parse(settings.dicom_store_options.get_secret_value()),
            timeout_s=settings.dicom_store_timeout_s,
        )
        if not cached or not settings.dicom_store_cache_bytes:
            return blobs
        return CachedBlobs(
            blobs, folder / "cache", settings.dicom_store_cache_bytes, keep_free_bytes=settings.min_free_bytes
        )
    return FilesystemBlobs(folder / "files", folder / "incoming")


def without_copies(blobs: BlobStore) -> BlobStore:
    """The store itself: what is read from it is what would be there if this machine were lost."""
    return blobs.store if isinstance(blobs, CachedBlobs) else blobs


@contextmanager
def rebuilding(settings: Settings, *, force: bool = False) -> Iterator[tuple[BlobStore, Index]]:
    """The store, and a new empty index that takes the old one's place when the block ends without an exception.

    Raises OutOfResources when another process has the archive open; Invalid when the old index was about another store,
    unless ``force``.
    """
    folder = settings.dicom_store_rootpath
    with ArchiveLock(folder, exclusive=True), closing(open_blobs(settings)) as blobs:
        if settings.mongodb_hosts:
            with _mongo_index(settings, "pacs reindex", exclusive=True) as old:
                _check_store(old.setting(store_identity.SETTING), blobs, force=force)
                with old.rebuilding() as index:
                    store_identity.settle(index, blobs)
                    yield blobs, index
        else:
            _check_store(setting_in(folder / INDEX_FILE, store_identity.SETTING), blobs, force=force)
            with _rebuilding_sqlite(folder / INDEX_FILE) as index:
                store_identity.settle(index, blobs)
                yield blobs, index


def _check_store(known: str | None, blobs: BlobStore, *, force: bool) -> None:
    there = blobs.identity()
    if known is not None and known != there and not force:
        raise store_identity.refusal(f"the old index is about store {known}, and this is {there or 'a new one'}")


@contextmanager
def _rebuilding_sqlite(old: Path) -> Iterator[Index]:
    new = old.with_name(f"{old.name}.new")
    _remove_database(new)
    try:
        with closing(SqliteIndex(new)) as index:
            for path in paths_in(old):
                index.add_index(path)
                index.fill_index(path)  # complete at once: there is nothing yet
            yield index
        carry_over(old, new)
        put_in_place(new, old)
    finally:
        _remove_database(new)


def backup_index(settings: Settings, destination: Path, progress: Callable[[int, int], None]) -> None:
    """Copy the index as it is now to a new file, beside running servers. Raises PacsError when that is not possible."""
    _needs_sqlite(settings)
    with ArchiveLock(settings.dicom_store_rootpath):
        copy_index(settings.dicom_store_rootpath / INDEX_FILE, destination, progress)


@contextmanager
def restoring(settings: Settings, backup: Path) -> Iterator[tuple[BlobStore, Index, Path | None]]:
    """Put an index from a backup in place; the store, the index, and where the one is that was there before.

    Raises OutOfResources when another process has the archive open, Corrupt when the backup is not whole or no index;
    then nothing has changed.
    """
    _needs_sqlite(settings)
    folder = settings.dicom_store_rootpath
    place, new = folder / INDEX_FILE, folder / f"{INDEX_FILE}.restored"
    with ArchiveLock(folder, exclusive=True), closing(open_blobs(settings)) as blobs:
        _remove_database(new)
        try:
            try:
                unpack(backup, new)
            except OSError as error:
                raise OutOfResources(f"the backup cannot be read: {error.strerror}") from error
            check_index(new)
            with closing(SqliteIndex(new)) as index:
                store_identity.settle(index, blobs)
            go_on_after_backup(new)
            aside = set_aside(place)
            put_in_place(new, place)
        finally:
            _remove_database(new)
        with closing(SqliteIndex(place)) as index:
            yield blobs, index, aside


@contextmanager
def _mongo_index(settings: Settings, what: str, *, exclusive: bool) -> Iterator[MongoIndex]:
    """Other nodes have data folders of their own: that they are at work is told by the database."""
    # Here, not above: the embedded index does without it, and starts faster.
    from pacs.index.mongo import MongoIndex

    index = MongoIndex(
        mongo_uri(settings),
        settings.mongodb_name,
        sharded=settings.mongodb_is_sharding_mode,
        timeout_s=settings.mongodb_timeout_s,
    )
    with closing(index), index.occupy(what, exclusive=exclusive):
        yield index


def _needs_sqlite(settings: Settings) -> None:
    if settings.mongodb_hosts:
        raise Invalid("the index is in MongoDB: back it up with mongodump, or with a snapshot", "MONGODB_HOSTS")


def _remove_database(database: Path) -> None:
    for path in (database, *log_files(database), *lock_files(database)):
        path.unlink(missing_ok=True)
