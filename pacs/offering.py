"""What a server offers beyond storing, finding and retrieving, put together from settings and archive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pacs.archive import Archive
from pacs.auditing import Auditing
from pacs.commitment import StorageCommitment
from pacs.dimse.availability import AVAILABILITY_SERVICE, AvailabilityNotifier
from pacs.dimse.composite import CompositeRetrieve
from pacs.dimse.mpps import performed_services
from pacs.dimse.non_patient import NonPatientObjects
from pacs.dimse.peers import Peers
from pacs.dimse.sender import Sender
from pacs.dimse.ups import reports_to, ups_service
from pacs.dimse.worklist import worklist_service
from pacs.followers import Followers
from pacs.measures import measures
from pacs.metrics import Board
from pacs.operating import Operating
from pacs.peering import PeerDirectory, usual_timeouts
from pacs.protection import Protection
from pacs.services.change_feed import ChangeFeed
from pacs.services.guarded_work import guarded
from pacs.services.labels import Labels
from pacs.services.sends import Sends
from pacs.services.ups_events import EventReports
from pacs.settings import Settings
from pacs.web import changes, fhir, fhir_convert, jobs, labels, metrics, performed, sends, trash, ups, worklist
from pacs.web import peers as peer_resources
from pacs.web.additions import Addition
from pacs.web.health import Check


class Offering:
    """Of one server process.

    look: whether it is ready. board: what its processes count on. auditing: begun already, or not yet. additions,
    protection: for the web server. services: for the DIMSE server. followers: works on the jobs of all of them.
    """

    def __init__(
        self,
        settings: Settings,
        archive: Archive,
        peers: Peers,
        sender: Sender,
        look: Callable[[], Sequence[Check]],
        board: Board,
        auditing: Auditing,
    ) -> None:
        ae_title, timeouts, work = settings.dimse_ae_title, usual_timeouts(settings), archive.index.work
        self._commitment = StorageCommitment(settings, archive, peers, timeouts, lambda: self.followers.wake())
        composite = CompositeRetrieve(archive.retrieve, archive.parts, sender, ae_title, timeouts)
        asked = Sends(work, archive.retrieve.instances, lambda peer: peers.find(peer) is not None)
        self.protection = Protection(settings, archive.index, archive.query, auditing.hear)
        self._operating = Operating(settings, archive, lambda: [check.problem for check in look() if check.problem])
        self.additions = [
            *self.protection.additions,
            *_additions(settings, archive, peers, board),
            auditing.addition(),
            sends.addition(asked, lambda: self.followers.wake()),
            *self._commitment.additions,
            *self._operating.additions,
        ]
        self.services = [
            worklist_service(archive.procedures.worklist),
            *performed_services(archive.procedures.performed),
            ups_service(archive.steps, peers),
            self._commitment.service,
            AVAILABILITY_SERVICE,
            *composite.services,
            *NonPatientObjects(archive.query, composite).services,
        ]
        handlers = [
            *self._commitment.handlers,
            AvailabilityNotifier(archive.index, peers, ae_title, timeouts).handler(),
            *self._operating.handlers,
            EventReports(work, reports_to(peers, ae_title, timeouts)).handler,
            *auditing.handlers(archive),
        ]
        self.followers = Followers(settings, archive, sender, handlers, self._commitment.ask, asked, auditing.hear)

    def start(self) -> None:
        """Work on the jobs of all services."""
        self._operating.start()
        self.followers.start()

    def stop(self, grace_s: float) -> None:
        """Finish what is under way. Beside the servers' own stop: what it waits for may be on their associations."""
        self._commitment.stop()
        self.followers.stop(grace_s)
        self._operating.stop()

    def close(self) -> None:
        """After the servers have stopped."""
        self._commitment.close()


def _additions(settings: Settings, archive: Archive, peers: Peers, board: Board) -> list[Addition]:
    work = archive.index.work
    rows = settings.qido_default_limit, settings.qido_max_limit
    directory = PeerDirectory(peers, settings.dimse_ae_title, usual_timeouts(settings))
    return [
        changes.addition(ChangeFeed(archive.index)),
        metrics.addition(
            partial(measures, board, archive, settings.min_free_bytes),
            is_allowed=settings.is_administered or settings.metrics_public,
            is_public=settings.metrics_public,
        ),
        jobs.addition(work if settings.is_administered else None),
        labels.addition(Labels(guarded(work, archive.room.check)), archive.query),
        trash.addition(archive.trash if settings.allow_delete else None),
        worklist.addition(archive.procedures.worklist, *rows),
        performed.addition(archive.procedures, *rows),
        ups.addition(archive.steps, *rows),
        peer_resources.addition(directory if settings.is_administered else None),
        fhir.addition(archive.fhir),
        fhir_convert.addition(archive.fhir, archive.store, max_body_bytes=settings.stow_max_bytes or None),
    ]
