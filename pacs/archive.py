"""The archive over one data folder, without any wire: what the commands work on, and what the servers serve."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from uuid import UUID, uuid5

from pacs.backends import open_blobs, open_index
from pacs.blobs.base import BlobStore
from pacs.dicom import transfer_syntax
from pacs.dicom.model import StoredInstance
from pacs.fhir_settings import systems, zone_of
from pacs.imaging import encode
from pacs.imaging.pool import Pool
from pacs.index.base import Index
from pacs.services import retention, rules, store_identity
from pacs.services.accesses import Hear, unheard
from pacs.services.composite import Parts
from pacs.services.delete import Delete
from pacs.services.fhir_archive import FhirArchive
from pacs.services.fhir_values import Namespaces
from pacs.services.file_key import FileKeyPattern
from pacs.services.following import Following
from pacs.services.guarded_work import guarded
from pacs.services.lock import ArchiveLock
from pacs.services.made_frames import MadeFrames, drop_frames_of
from pacs.services.making_ahead import MakingAhead
from pacs.services.procedures import Procedures
from pacs.services.query import QueryService
from pacs.services.retention import Retaining
from pacs.services.retrieve import Retrieve
from pacs.services.room import Room
from pacs.services.store import Store
from pacs.services.trash import Trash
from pacs.services.ups import ProcedureSteps
from pacs.services.ups_subscriptions import Subscriptions
from pacs.settings import Settings

_ARCHIVES = UUID("b8f4a1a5-6c0e-4d0b-9b0a-0d6e3f6a7c11")  # of the names of archives in FHIR resources
_MADE_FRAMES = "frames"  # in the data folder; may be removed while no server runs


@dataclass
class Archive:
    """Index, blobs and services over one data folder, without any wire. Close it, or use it in a ``with``."""

    data_folder: Path
    index: Index
    blobs: BlobStore
    store: Store
    query: QueryService
    retrieve: Retrieve
    parts: Parts
    delete: Delete
    trash: Trash
    room: Room
    retaining: Retaining
    following: Following
    procedures: Procedures
    fhir: FhirArchive
    steps: ProcedureSteps
    pool: Pool
    _resources: ExitStack

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        exclusive: bool = False,
        cached: bool = False,
        what: str = "a pacs command",
        hear: Hear = unheard,
    ) -> Archive:
        """Open, or make, the archive in DICOM_STORE_ROOTPATH.

        exclusive: no other process may have it open (reindex). cached: keep copies of what is read from an object store
        (servers; not what has to see the store as it is). what: told to those who want it alone. hear: told of who does
        what. Raises PacsError when the folder cannot be used or is in use, when its index was made by a newer version,
        and when the store is not the index's.
        """
        folder = settings.dicom_store_rootpath
        with ExitStack() as opened:
            opened.enter_context(ArchiveLock(folder, exclusive=exclusive))
            blobs = open_blobs(settings, cached=cached)
            opened.callback(blobs.close)
            index = opened.enter_context(open_index(settings, what, exclusive=exclusive))
            store_identity.settle(index, blobs)
            pool = Pool(settings.imaging_workers, settings.imaging_queue, settings.imaging_timeout_s)
            opened.callback(pool.close)
            retrieve, on_stored = _retrieve(settings, index, blobs, pool, opened, is_serving=cached)
            found = rules.load(settings.rules) if settings.rules is not None else []
            is_followed = bool(settings.ian_aes) or any(rule.moment is rules.Moment.STUDY for rule in found)
            room = Room(blobs.free_bytes, settings.min_free_bytes)
            work = guarded(index.work, room.check)
            procedures = Procedures.over(
                index, work, folder=settings.worklist_folder, quiet_s=settings.study_quiet_s, is_followed=is_followed
            )
            # Always asked, and mostly with nothing to say: rules may come while the server runs.
            following = Following(
                found,
                fhir=settings.sync_to_fhir_server,
                arrived=procedures.completeness.follow,
                announce=settings.ian_aes,
            )
            query = QueryService(index, hear)
            return cls(
                folder,
                index,
                blobs,
                Store(
                    index,
                    blobs,
                    FileKeyPattern(settings.dicom_store_filepath),
                    replace=settings.duplicates == "replace",
                    max_object_bytes=settings.max_instance_bytes or None,
                    max_inflated_bytes=settings.max_inflated_bytes,
                    on_stored=on_stored,
                    follow=following.after_store,
                    room=room,
                    hear=hear,
                ),
                query,
                retrieve,
                Parts(index, blobs, pool),
                Delete(
                    index,
                    blobs,
                    on_purged=partial(drop_frames_of, folder / _MADE_FRAMES),
                    follow=following.after_delete,
                    hear=hear,
                ),
                Trash(
                    index,
                    blobs,
                    max_inflated_bytes=settings.max_inflated_bytes,
                    follow=following.after_restore,
                    hear=hear,
                ),
                room,
                Retaining(index, retention.load(settings.retention)),
                following,
                procedures,
                _fhir(settings, query, index),
                ProcedureSteps(work, Subscriptions(work), lambda studies, scope: index.labels_of(studies, scope=scope)),
                pool,
                opened.pop_all(),
            )

    def close(self) -> None:
        self._resources.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fhir(settings: Settings, query: QueryService, index: Index) -> FhirArchive:
    # A store keeps its name whatever becomes of the index.
    name = uuid5(_ARCHIVES, index.setting(store_identity.SETTING) or "")
    patients, accessions = systems(settings.fhir_patient_systems), systems(settings.fhir_accession_systems)
    return FhirArchive(
        query,
        Namespaces(name, patients, accessions),
        zone=zone_of(settings),
        max_instances=settings.fhir_max_instances,
    )


def _retrieve(
    settings: Settings, index: Index, blobs: BlobStore, pool: Pool, opened: ExitStack, *, is_serving: bool
) -> tuple[Retrieve, Callable[[StoredInstance], None]]:
    """The way out, and what has to hear of each instance that is stored. Only servers keep, and make ahead, frames."""
    made = None
    if is_serving and settings.frames_cache_bytes:
        made = MadeFrames(
            settings.dicom_store_rootpath / _MADE_FRAMES,
            settings.frames_cache_bytes,
            encode.maker(),
            keep_free_bytes=settings.min_free_bytes,
        )
        opened.callback(made.close)
    retrieve = Retrieve(
        index,
        blobs,
        pool,
        max_frame_pixels=settings.imaging_max_pixels,
        made=made,
        preferred_frames="" if settings.frames_htj2k == "asked" else transfer_syntax.HTJ2K_LOSSLESS_RPCL,
    )
    if not (is_serving and settings.frames_htj2k == "ahead"):
        return retrieve, lambda instance: None
    ahead = MakingAhead(retrieve)
    opened.callback(ahead.close)
    opened.callback(pool.close)  # before that: what is being made is not waited for
    return retrieve, ahead.note
