"""Taking over changed settings while the server runs: what can be, and what has to wait for a restart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pacs import logs
from pacs.archive import Archive
from pacs.dimse.server import DimseServer
from pacs.errors import PacsError
from pacs.followers import Followers
from pacs.services import retention, rules
from pacs.services.retention import Retention
from pacs.services.rules import Moment, Rule
from pacs.settings import Settings, effective
from pacs.web.server import WebServer

log = logging.getLogger(__name__)

# Peers, users and certificates are not among them: their files are read again by themselves when they change.
LIVE = frozenset(
    {
        *("LOG_LEVEL", "LOG_FORMAT", "RULES", "STUDY_QUIET_S", "RETENTION", "PURGE_AFTER_DAYS", "MIN_FREE_BYTES"),
        *("MAX_INSTANCE_BYTES", "MAX_ASSOCIATIONS", "CORS_ALLOWED_ORIGINS", "ALERT_WEBHOOKS"),
    }
)


@dataclass(frozen=True, slots=True)
class Change:
    """settings: those that run from now on. rules, retention: as their files are now. later: what needs a restart."""

    settings: Settings
    rules: list[Rule]
    retention: Retention
    changed: list[str]
    later: list[str]


def read_change(now: Settings, read: Callable[[], Settings]) -> Change | None:
    """What is to change; None, and an error in the log, when the new configuration cannot be used as a whole."""
    try:
        new = read()
        found = rules.load(new.rules) if new.rules is not None else []
        kept = retention.load(new.retention)
    except PacsError as error:
        log.error("the configuration was not reloaded, the old one goes on: %s", error)
        return None
    old_values, new_values = effective(now), effective(new)
    # Secrets are masked in what is shown, and told apart by themselves.
    changed = [
        name
        for name in old_values
        if old_values[name] != new_values[name] or getattr(now, name.lower()) != getattr(new, name.lower())
    ]
    update = {name.lower(): getattr(new, name.lower()) for name in LIVE}
    return Change(
        now.model_copy(update=update),
        found,
        kept,
        [name for name in changed if name in LIVE],
        [name for name in changed if name not in LIVE],
    )


def tell(change: Change) -> None:
    """In the log."""
    log.warning(
        "configuration reloaded changed=%s rules=%d retention=%d",
        *(",".join(change.changed) or "nothing", len(change.rules), len(change.retention.rules)),
    )
    if change.later:
        log.warning("these settings have changed too, and take effect at the next start: %s", ", ".join(change.later))


class Reloader:
    """Of one server process. settings: as it started. read: reads them anew. worker: its number among several."""

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        archive: Archive,
        followers: Followers,
        web: WebServer,
        dimse: DimseServer | None,
        worker: int | None,
    ) -> None:
        self._settings = settings
        self._read = read
        self._archive = archive
        self._followers = followers
        self._web = web
        self._dimse = dimse
        self._worker = worker

    def reload(self) -> bool:
        """Whether the configuration was taken over. What is under way goes on as it began."""
        logs.reopen()  # whoever moved the log file did so whatever the configuration is like
        change = read_change(self._settings, self._read)
        if change is None:
            return False
        new, archive = change.settings, self._archive
        logs.configure(new.log_level, new.log_format, worker=self._worker, file=new.logs_to)
        archive.procedures.completeness.use(
            new.study_quiet_s,
            is_followed=bool(new.ian_aes) or any(rule.moment is Moment.STUDY for rule in change.rules),
        )
        archive.following.use(change.rules)
        archive.retaining.retention = change.retention
        archive.room.min_free_bytes = new.min_free_bytes
        archive.store.max_object_bytes = new.max_instance_bytes or None
        self._web.allow_origins(new.cors_allowed_origins)
        if self._dimse is not None:
            self._dimse.max_associations = new.max_associations
        self._followers.use(new)
        self._settings = new
        tell(change)
        return True
