"""Who may do what over HTTP, put together from settings and index."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable

from pacs.dicom.model import Role
from pacs.errors import PacsError
from pacs.index.base import Index
from pacs.services import sessions
from pacs.services.accesses import Hear, unheard
from pacs.services.accounts import Accounts
from pacs.services.attempts import Attempts
from pacs.services.authentication import Authentication
from pacs.services.passwords import Passwords
from pacs.services.roster import Rosters
from pacs.services.sessions import Sessions
from pacs.services.tokens import Tokens
from pacs.settings import Settings
from pacs.web import accounts as account_resources
from pacs.web.additions import Addition
from pacs.web.cors import Cors
from pacs.web.links import Links
from pacs.web.login import Anonymous, Login
from pacs.web.session import SessionResources
from pacs.web.ways import BasicWay, Hashing, SessionWay, TokenWay

log = logging.getLogger(__name__)


class Protection:
    """Of one server process. hear: told of who logs in and out over HTTP."""

    def __init__(self, settings: Settings, index: Index, hear: Hear = unheard) -> None:
        passwords = Passwords()
        self.rosters = Rosters(index.work)
        self.accounts = Accounts(self.rosters, passwords)
        self.tokens = Tokens(self.rosters)
        self.authentication = Authentication(self.rosters, passwords, Attempts(index.work))
        secret = index.remember(sessions.SETTING, secrets.token_urlsafe(32))
        salt = settings.server_session_secret_key.get_secret_value()
        longest, idle = settings.session_times
        self.sessions = Sessions(self.rosters, secret, salt, longest=longest, idle=idle)
        self._anonymous = anonymous(settings)
        self._hashing = Hashing(self.authentication)
        self._session_resources = SessionResources(self.accounts, self.sessions, self._hashing, hear)
        self.additions: list[Addition] = [
            self._session_resources.addition(),
            account_resources.addition(self.accounts, self.tokens, is_administered=settings.is_administered),
        ]

    @property
    def account_of(self) -> Callable[[str, str], str | None] | None:
        """Name and password to an account's name, for DIMSE; None while there are no accounts. May block."""
        return None if self.accounts.is_empty else self._account_of

    def _account_of(self, name: str, password: str) -> str | None:
        try:
            return self.authentication.verify(name, password, "dimse").name
        except PacsError as error:
            log.info("account refused over DIMSE reason=%s", error)
            return None

    def login(self, links: Links, cors: Cors) -> Login:
        """For the web server."""
        ways = (
            SessionWay(self.sessions),
            TokenWay(self.tokens, self.rosters.note_use),
            BasicWay(self._hashing, lambda request: links.caller(request).address),
        )
        return self._session_resources.serve(Login(self.rosters, self.sessions, self._anonymous, ways, links, cors))


def anonymous(settings: Settings) -> Anonymous:
    """What ALLOW_ANONYMOUS, ADMIN_API and SERVER_HOST say of those who are not known."""
    said = settings.allow_anonymous
    if said == "false":
        return Anonymous()
    if said in ("reader", "writer"):
        role = Role[said.upper()]
        return Anonymous(role, role, even_with_accounts=True)
    here = (Role.ADMIN if settings.is_admin_api else Role.WRITER) if settings.is_local else None
    if said == "true":
        elsewhere = Role.ADMIN if settings.admin_api == "true" else Role.WRITER
        return Anonymous(here, elsewhere, even_with_accounts=True)
    return Anonymous(here)
