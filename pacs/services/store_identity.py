"""Whether a store is the one that the index is about.

Each store has a name of its own, written into it once; the index remembers it. Another store in its place, by a changed
setting or a volume that is not mounted, is noticed before anything is stored there, or taken for lost.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, islice

from pacs.blobs.base import BlobStore
from pacs.dicom.model import StoredInstance
from pacs.errors import Invalid, NotFound
from pacs.index.base import Index

log = logging.getLogger(__name__)

SETTING = "store"
_SUBJECT = "DICOM_STORE_URL"
_LOOKED_AT = 20


def settle(index: Index, blobs: BlobStore) -> None:
    """Make sure that index and store belong together; of two that never met, each gets to know the other.

    An empty index takes any store. One that knows no store yet (it is older than this), and a store that has no name
    any more, are taken together when a file of the index is there. Safe in several processes at once. Raises Invalid
    when they do not belong together, and has changed nothing then.
    """
    there, known = blobs.identity(), index.setting(SETTING)
    if there is not None and there == known:
        return
    is_empty = next(_known_files(index), None) is None
    if not is_empty:
        if there is not None and known is not None:
            raise refusal(f"the index is about store {known}, and this is store {there}")
        if not _holds_a_file_of(index, blobs):
            raise refusal("none of the files that the index knows is in it")
        log.warning("taking the store as this index's: its files are there, though one did not know the other")
    if there is None:
        there = blobs.identify(known if known is not None and not is_empty else secrets.token_hex(8))
    known = index.remember(SETTING, there, known)
    if known != there:  # another process was quicker, with another store
        raise refusal(f"the index is about store {known}, and this is store {there}")
    log.info("store=%s", there)


def refusal(reason: str) -> Invalid:
    return Invalid(
        f"this is not the store that the index belongs to: {reason}. Nothing was changed. Set DICOM_STORE_URL and "
        "DICOM_STORE_ROOTPATH to where the files are, and see that it is mounted",
        _SUBJECT,
    )


def _known_files(index: Index) -> Iterator[StoredInstance]:
    discarded = index.discarded(datetime.max.replace(tzinfo=UTC))
    return chain(index.stored(), (version.instance for version in discarded))


def _holds_a_file_of(index: Index, blobs: BlobStore) -> bool:
    for instance in islice(_known_files(index), _LOOKED_AT):
        try:
            if blobs.state(instance.blob.key).size_bytes == instance.blob.size_bytes:
                return True
        except NotFound:
            continue
    return False
