"""Who may do what over HTTP, put together from settings and index."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from pacs.dicom.model import Role
from pacs.errors import PacsError
from pacs.index.base import Index
from pacs.services import sessions
from pacs.services.access import Principal
from pacs.services.accesses import Hear, unheard
from pacs.services.accounts import Accounts
from pacs.services.attempts import Attempts
from pacs.services.authentication import Authentication
from pacs.services.passwords import Passwords
from pacs.services.query import QueryService
from pacs.services.roster import Rosters
from pacs.services.sessions import Sessions
from pacs.services.shares import Shares
from pacs.services.tokens import Tokens
from pacs.settings import Settings
from pacs.web import accounts as account_resources
from pacs.web.additions import Addition
from pacs.web.cors import Cors
from pacs.web.identity import Way
from pacs.web.links import Links
from pacs.web.login import Anonymous, Login
from pacs.web.oidc import OidcResources, OidcWay
from pacs.web.session import SessionResources
from pacs.web.shares import ShareResources, reaches
from pacs.web.ways import BasicWay, Hashing, SessionWay, TokenWay

if TYPE_CHECKING:
    from pacs.web.oidc_provider import Provider

log = logging.getLogger(__name__)


class Protection:
    """Of one server process. hear: told of who logs in and out over HTTP."""

    def __init__(self, settings: Settings, index: Index, query: QueryService, hear: Hear = unheard) -> None:
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
        self.shares = Shares(self.rosters)
        self._provider = _provider(settings)
        self._oidc = OidcResources(self._provider, self.sessions) if self._provider else None
        self._session_resources = SessionResources(
            *(self.accounts, self.shares, self.sessions, self._hashing, hear),
            self._provider.logout_url if self._provider else lambda page: None,
        )
        self.additions: list[Addition] = [
            self._session_resources.addition(),
            *([self._oidc.addition()] if self._oidc else []),
            ShareResources(self.shares, query).addition(),
            account_resources.addition(self.accounts, self.tokens, is_administered=settings.is_administered),
        ]

    @property
    def account_of(self) -> Callable[[str, str], Principal | None] | None:
        """Name and password to who that is, for DIMSE; None while there are no accounts. May block."""
        return None if self.accounts.is_empty else self._account_of

    def _account_of(self, name: str, password: str) -> Principal | None:
        try:
            account = self.authentication.verify(name, password, "dimse")
        except PacsError as error:
            log.info("account refused over DIMSE reason=%s", error)
            return None
        return Principal(account.name, account.role, account.scope, "password")

    def login(self, links: Links, cors: Cors) -> Login:
        """For the web server."""
        ways: tuple[Way, ...] = (
            SessionWay(self.sessions),
            TokenWay(self.tokens, self.rosters.note_use),
            *([OidcWay(self._provider)] if self._provider else []),
            BasicWay(self._hashing, lambda request: links.caller(request).address),
        )
        words = ("password", "oidc") if self._oidc else ("password",)
        login = Login(self.rosters, self.sessions, self._anonymous, ways, links, cors, words, reaches)
        if self._oidc:
            self._oidc.serve(login)
        return self._session_resources.serve(login)


def _provider(settings: Settings) -> Provider | None:
    """None when OIDC_ISSUER is not set."""
    if not settings.oidc_issuer:
        return None
    from pacs.web import oidc_provider  # few archives have one: the others need not load what checks its signatures

    client = oidc_provider.Client(
        settings.oidc_issuer,
        settings.oidc_client_id,
        settings.oidc_client_secret.get_secret_value(),
        settings.oidc_scopes,
        settings.oidc_audience or settings.oidc_client_id,
        settings.oidc_tls_ca_file,
    )
    values = {
        Role.READER: settings.oidc_reader,
        Role.WRITER: settings.oidc_writer,
        Role.ADMIN: settings.oidc_admin,
    }
    naming = oidc_provider.naming(settings.oidc_account_claim, settings.oidc_role_claim, values)
    return oidc_provider.Provider(client, naming)


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
