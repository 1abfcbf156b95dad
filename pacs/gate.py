"""Whether a server may be reached as its settings have it: outside this machine, nobody is let in by oversight."""

from __future__ import annotations

from pacs.errors import Invalid
from pacs.settings import Settings

_LETS_IN = frozenset({"reader", "writer", "true"})


def takes_accounts(settings: Settings) -> bool:
    """Whether the web server may be started only if there is an account, here or at an OpenID Connect provider."""
    if settings.allow_anonymous == "false":
        return True
    return not settings.is_local and settings.allow_anonymous not in _LETS_IN


def check(settings: Settings, *, has_accounts: bool) -> None:
    """Raises Invalid, which says what to do, when DIMSE or the web server would be open to others by oversight."""
    problems = []
    if takes_accounts(settings) and not has_accounts and not settings.oidc_issuer:
        problems.append(_web_problem(settings))
    if settings.enable_dimse and _is_dimse_open(settings):
        problems.append(_DIMSE_PROBLEM.format(host=settings.dimse_hostname))
    if problems:
        where = f"Settings may also stand in {settings.home / '.env'}. docs/security.md says more."
        raise Invalid("\n\n".join([*problems, where]), "ALLOW_ANONYMOUS")


def _is_dimse_open(settings: Settings) -> bool:
    if settings.is_dimse_local or settings.dimse_allow_anonymous or settings.allow_anonymous == "true":
        return False
    is_checked = settings.dimse_strict or settings.dimse_user_required
    has_certificates = settings.dimse_tls_clients == "required"
    return not is_checked and bool(settings.dimse_port or (settings.dimse_tls_port and not has_certificates))


def _web_problem(settings: Settings) -> str:
    if settings.allow_anonymous == "false":
        why = "ALLOW_ANONYMOUS=false: everybody has to log in, and there are no accounts."
        choices = _ACCOUNT
    else:
        host = settings.server_host
        why = f"SERVER_HOST={host}: other machines would reach the web server, and nobody would have to log in."
        choices = f"{_ACCOUNT}{_OPEN}{_ALONE}"
    return f"{why} Do one of these:\n{choices}".rstrip("\n")


_ACCOUNT = (
    "  pacs account add NAME                   make an administrator's account, then start again\n"
    "  ADMIN_PASSWORD='…' pacs serve           the same with the name admin, when the server starts (containers)\n"
)
_OPEN = "  ALLOW_ANONYMOUS=true pacs serve         let everybody in who reaches the port\n"
_ALONE = "  SERVER_HOST=127.0.0.1 pacs serve        listen on this machine alone\n"
_DIMSE_PROBLEM = (
    "DIMSE_HOSTNAME={host}: any machine could store, find and fetch over DIMSE. Do one of these:\n"
    "  DIMSE_STRICT=true pacs serve            only the peers of config/ae.properties and config/peers.toml\n"
    "  DIMSE_USER_REQUIRED=true pacs serve     only users with a passcode (DIMSE_USERS, or accounts)\n"
    "  DIMSE_PORT=0 DIMSE_TLS_PORT=2762 …      only peers with a certificate (docs/dimse.md)\n"
    "  DIMSE_ALLOW_ANONYMOUS=true pacs serve   every machine that reaches the port\n"
    "  DIMSE_HOSTNAME=127.0.0.1 pacs serve     this machine alone; ENABLE_DIMSE=false: no DIMSE"
)
