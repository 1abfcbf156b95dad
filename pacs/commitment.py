"""Storage commitment put together from settings and archive: both sides of it, over DIMSE and DICOMweb."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from pacs.archive import Archive
from pacs.backends import without_copies
from pacs.dicom.model import StoredInstance
from pacs.dimse.commitment import CommitmentProvider
from pacs.dimse.commitment_user import CommitmentUser, commitment_service
from pacs.dimse.peers import Peers
from pacs.dimse.wire import Timeouts
from pacs.index.work import NewJob
from pacs.services.commitment import Commitments
from pacs.services.commitment_requests import CommitmentRequests
from pacs.settings import Settings
from pacs.web import commitment as web_commitment
from pacs.web import commitments as web_commitments


class StorageCommitment:
    """Of one server process. wake: there is a job to do.

    service: for the DIMSE server; handlers: for the runner of jobs; additions: for the web server.
    """

    def __init__(
        self, settings: Settings, archive: Archive, peers: Peers, timeouts: Timeouts, wake: Callable[[], None]
    ) -> None:
        self._wake = wake
        keep = timedelta(days=settings.commitment_keep_days)
        digests = settings.commitment_verify == "digest"
        given = Commitments(
            archive.index,
            without_copies(archive.blobs),
            digests=digests,
            keep=keep,
            expect=archive.procedures.completeness.expect,
        )
        again_after = timedelta(seconds=settings.commitment_again_s)
        self._requests = CommitmentRequests(archive.index.work, again_after=again_after, keep=keep)
        self._provider = CommitmentProvider(
            *(given, peers, settings.dimse_ae_title, timeouts), wait_s=settings.commitment_wait_s, wake=wake
        )
        user = CommitmentUser(self._requests, peers, settings.dimse_ae_title, timeouts, wake=wake)
        self.service = commitment_service(self._provider, user)
        self.handlers = [self._provider.handler(), user.handler()]
        allowed = self._requests if settings.is_administered else None
        self.additions = [
            web_commitment.addition(given, wake),
            web_commitments.addition(allowed, archive.retrieve, lambda name: peers.find(name) is not None, wake),
        ]

    def ask(self, peer: str, instances: Sequence[StoredInstance], then: Sequence[NewJob] = ()) -> str:
        """Have a peer asked, now: ``CommitmentRequests.ask``."""
        uid = self._requests.ask(peer, instances, then)
        self._wake()
        return uid

    def stop(self) -> None:
        """Read no further files: what is under way is left to its job. Does not wait."""
        self._provider.stop()

    def close(self) -> None:
        """Call it when associations have ended, and jobs."""
        self._provider.close()
