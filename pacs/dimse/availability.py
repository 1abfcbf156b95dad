"""Instance Availability Notification (PS3.4 R): told to others by N-CREATE, and taken note of."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from pacs.dicom.model import Caller
from pacs.dicom.uids import new_uid
from pacs.dimse.association import Message
from pacs.dimse.command import Field
from pacs.dimse.peers import Peers
from pacs.dimse.requests import Requests
from pacs.dimse.service import Service, read_attributes
from pacs.dimse.status import SUCCESS, Status
from pacs.dimse.wire import Timeouts
from pacs.errors import MissingAttribute, PeerFailed
from pacs.index.base import Index
from pacs.index.work import Job
from pacs.services.availability import AVAILABILITY, notification, study_of
from pacs.services.jobs import Ended, Handler, Unavailable

log = logging.getLogger(__name__)

NOTIFICATION = "1.2.840.10008.5.1.4.33"
_BATCH = 50
_LIMIT = 16 << 20
_STUDY_UID, _SERIES, _SOPS = "0020000D", "00081115", "00081199"


class AvailabilityNotifier:
    """Does jobs of ``pacs.services.availability``."""

    def __init__(self, index: Index, peers: Peers, ae_title: str, timeouts: Timeouts) -> None:
        self._index = index
        self._peers = peers
        self._ae_title = ae_title
        self._timeouts = timeouts

    def handler(self) -> Handler:
        return Handler(AVAILABILITY, self.run, batch=_BATCH)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        """Tell one peer of some studies, over one association."""
        name = jobs[0].group
        peer = self._peers.find(name)
        if peer is None:
            raise Unavailable(f"{name} is to be told of studies and is no known peer: add it to the peers")
        try:
            with Requests(peer, self._ae_title, peer.timeouts(self._timeouts)).normalized([NOTIFICATION]) as user:
                for job in jobs:
                    study_uid = study_of(job.payload)
                    told = notification(self._index, study_uid, self._ae_title)
                    if told is None:  # it has been deleted
                        yield Ended(job)
                        continue
                    try:
                        user.create(NOTIFICATION, new_uid(), told)
                    except PeerFailed as error:
                        if error.status is None:
                            raise
                        yield Ended(job, str(error))
                        continue
                    log.info("told of study=%s peer=%s", study_uid, name)
                    yield Ended(job)
        except PeerFailed as error:
            raise Unavailable(str(error)) from error


def take_notification(message: Message, caller: Caller) -> None:
    """N-CREATE of a peer: what it has goes into the log."""
    attributes = read_attributes(message, _LIMIT)
    study_uid = next(iter(attributes.get(_STUDY_UID, {}).get("Value") or [""]))
    if not study_uid:
        raise MissingAttribute("Study Instance UID is missing")
    series = attributes.get(_SERIES, {}).get("Value") or []
    count = sum(len(each.get(_SOPS, {}).get("Value") or []) for each in series)
    log.info("available elsewhere study=%s at=%s series=%d instances=%d", study_uid, caller.name, len(series), count)
    message.respond(Status(SUCCESS), sop_uid=message.command.sop_uid or new_uid())


AVAILABILITY_SERVICE = Service("availability", frozenset({NOTIFICATION}), {Field.N_CREATE: take_notification})
