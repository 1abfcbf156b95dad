"""Who works on jobs in a server: the handlers of all kinds, put together from settings and archive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence

from pacs.archive import Archive
from pacs.dicom.model import Caller, StoredInstance
from pacs.dimse.client import Outcome
from pacs.dimse.sender import Sender
from pacs.observers.disk import DiskWatch
from pacs.observers.feed import Feed
from pacs.observers.fhir import FhirSync
from pacs.observers.fhir_client import FhirClient
from pacs.observers.fhir_login import ClientCredentials, FixedLogin, Login, basic
from pacs.observers.http import Http
from pacs.observers.keeping import Keeping
from pacs.observers.sending import Commit, Sending
from pacs.observers.sending_asked import SendingAsked
from pacs.observers.settled import Deleting, Labelling, Settled
from pacs.observers.stow import Stow
from pacs.observers.webhook import Webhook
from pacs.services.accesses import Access, Action, Hear, unheard
from pacs.services.jobs import Handler, JobRunner, Unavailable
from pacs.services.labels import Labels
from pacs.services.sends import Sends
from pacs.services.ups_cleaning import Cleaning
from pacs.settings import Settings, fhir_endpoint

log = logging.getLogger(__name__)

_RULES = Caller("forwarding", "", "job")  # whom nobody stands behind
_MEDIUM = 0  # priority of what nobody waits for (PS3.7 9.1.1.1.5)


class Followers:
    """The runner of a server process, and the feed that it tells.

    further: handlers of services beside. commit: has a peer asked for storage commitment. asked: what people send.
    hear: told of what is sent.
    """

    def __init__(
        self,
        settings: Settings,
        archive: Archive,
        sender: Sender,
        further: Sequence[Handler],
        commit: Commit,
        asked: Sends,
        hear: Hear = unheard,
    ) -> None:
        work = archive.index.work
        self._http = [Http()]
        webhook = Webhook(self._http[0], settings.webhook_secret.get_secret_value())
        self._feed = Feed(work, webhook.post, settings.changes_webhooks, settings.changes_keep_days)
        self._missing = sorted(
            {peer for rule in archive.following.rules for peer in rule.send if sender.find(peer) is None}
        )
        self._cleaning = Cleaning(work, archive.steps.subscriptions, settings.ups_keep_days)
        self.keeping = Keeping(work, archive.retaining, archive.delete, settings.purge_after_days)
        handlers = [
            *self.keeping.handlers,
            Sending(archive.index, _send_with(sender, hear), commit).handler,
            SendingAsked(archive.index, asked, _send_with(sender, hear)).handler,
            Stow(archive.index, archive.blobs, self._http[0]).handler,
            webhook.handler,
            *archive.procedures.completeness.handlers(),
            Settled(archive.index, archive.following).handler,
            Labelling(Labels(work)).handler,
            Deleting(archive.index, archive.delete).handler,
            *self._feed.handlers,
            *self._cleaning.handlers,
            *further,
        ]
        if settings.sync_to_fhir_server:
            ca_file = settings.fhirserver_tls_ca_file
            http = Http(timeout_s=settings.fhirserver_timeout_s, ca_file=str(ca_file) if ca_file else None)
            self._http.append(http)
            handlers.append(_fhir_sync(settings, archive, http).handler)
        place = str(settings.dicom_store_rootpath)
        self._disk = DiskWatch(work, archive.room, settings.alert_webhooks, place, self.wake)
        self._runner = JobRunner(work, handlers, give_up_s=settings.jobs_give_up_days * 86400)

    def start(self) -> None:
        for peer in self._missing:
            log.warning("a rule sends to a peer that is not known: aet=%s (`pacs peers` lists them)", peer)
        self._feed.begin()
        self._cleaning.begin()
        self.keeping.begin()
        self._runner.start()
        self._disk.start()

    def use(self, settings: Settings) -> None:
        """What of these can change while it runs, from now on."""
        self.keeping.purge_after_days = settings.purge_after_days
        self._disk.addresses = settings.alert_webhooks
        self.keeping.begin()
        self.wake()

    def wake(self) -> None:
        self._runner.wake()

    def stop(self, grace_s: float) -> None:
        self._disk.stop()
        self._runner.stop(grace_s)
        for http in self._http:
            http.close()


def _send_with(sender: Sender, hear: Hear) -> Callable[[str, Sequence[StoredInstance]], Generator[Outcome, None, None]]:
    def send(name: str, instances: Sequence[StoredInstance]) -> Generator[Outcome, None, None]:
        peer = sender.find(name)
        if peer is None:
            raise Unavailable(f"there is no peer {name}: add it to the peers' file")
        for outcome in sender.send(peer, instances, _MEDIUM, None):
            hear(_sent(outcome, name))
            yield outcome

    return send


def _sent(outcome: Outcome, to: str) -> Access:
    instance, is_sent = outcome.instance, outcome.is_success or outcome.is_warning
    return Access(
        Action.SENT,
        _RULES,
        instance.target.study_uid,
        sop_class_uid=instance.sop_class_uid,
        instances=1,
        is_failure=not is_sent,
        peer=to,
        detail="" if is_sent else outcome.reason,
    )


def _fhir_sync(settings: Settings, archive: Archive, http: Http) -> FhirSync:
    client = FhirClient(
        settings.fhirserver_base_url, _fhir_login(settings), http, timeout_s=settings.fhirserver_timeout_s
    )
    return FhirSync(
        archive.index.work,
        archive.fhir,
        client,
        endpoint_address=fhir_endpoint(settings)[0],
        when_deleted=settings.fhir_when_deleted,
        removes_patients=settings.fhir_remove_patients,
    )


def _fhir_login(settings: Settings) -> Login:
    token, password = settings.fhirserver_token.get_secret_value(), settings.fhirserver_password.get_secret_value()
    if settings.fhirserver_token_url:
        return ClientCredentials(
            settings.fhirserver_token_url,
            settings.fhirserver_client_id,
            settings.fhirserver_client_secret.get_secret_value(),
            scope=settings.fhirserver_scope,
            in_body=settings.fhirserver_client_auth == "post",
        )
    if token:
        return FixedLogin(f"Bearer {token}")
    return FixedLogin(basic(settings.fhirserver_user, password) if settings.fhirserver_user else "")
