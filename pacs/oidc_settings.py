"""The settings of logging in at an OpenID Connect provider."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, SecretStr

from pacs.errors import Invalid
from pacs.setting_kinds import TEXT, listed, setting

_VALUES = "values, between commas or as a JSON array"


def _issuer(value: str) -> str:
    """https; without TLS only what cannot leave this machine: whoever is on the way could log in as anybody."""
    parts = urlsplit(value)
    is_here = parts.hostname is not None and re.fullmatch(r"localhost|127(\.\d{1,3}){3}|::1", parts.hostname)
    is_address = parts.scheme == "https" or (parts.scheme == "http" and is_here)
    if value and not (is_address and parts.hostname and not parts.query and not parts.fragment):
        raise ValueError
    return value


class OidcSettings(BaseModel):
    oidc_issuer: Annotated[str, AfterValidator(_issuer)] = setting(
        "",
        "OpenID Connect",
        "Provider that people log in at, and whose tokens programs show (docs/security.md); Keycloak's is "
        "https://HOST/realms/NAME.",
        "an https address; http on this machine alone",
        "https://login.hospital.example/realms/imaging",
    )
    oidc_client_id: str = setting(
        "", "OpenID Connect", "What the provider knows this archive as.", TEXT, "raccoon-pacs"
    )
    oidc_client_secret: SecretStr = setting(
        SecretStr(""),
        "OpenID Connect",
        "Secret of that client. Not set: a public client, which PKCE protects alone.",
        TEXT,
        "what the provider shows",
    )
    oidc_scopes: str = setting(
        "openid profile",
        "OpenID Connect",
        "What is asked for at log-in; openid is always added.",
        "words between blanks",
        "openid profile roles",
    )
    oidc_account_claim: str = setting(
        "preferred_username",
        "OpenID Connect",
        "Claim that names the person; where it is missing, sub does.",
        "a claim, or a path with dots",
        "email",
    )
    oidc_role_claim: str = setting(
        "realm_access.roles",
        "OpenID Connect",
        "Claim that holds roles or groups: of the ID token, else of the access token, else of userinfo.",
        "a claim, or a path with dots",
        "groups",
    )
    oidc_reader: Annotated[tuple[str, ...], BeforeValidator(listed)] = setting(
        ("pacs-reader",),
        "OpenID Connect",
        "Values of that claim that make a reader. Who has none of these three may do nothing; * stands for everybody "
        "whom the provider lets in.",
        _VALUES,
        "radiology,cardiology",
    )
    oidc_writer: Annotated[tuple[str, ...], BeforeValidator(listed)] = setting(
        ("pacs-writer",), "OpenID Connect", "Values that make a writer.", _VALUES, "technicians"
    )
    oidc_admin: Annotated[tuple[str, ...], BeforeValidator(listed)] = setting(
        ("pacs-admin",), "OpenID Connect", "Values that make an administrator.", _VALUES, "pacs-team"
    )
    oidc_audience: str = setting(
        "",
        "OpenID Connect",
        "Audience that access tokens of programs must have. Not set: OIDC_CLIENT_ID.",
        TEXT,
        "https://pacs.hospital.example",
    )
    oidc_tls_ca_file: Path | None = setting(
        None,
        "OpenID Connect",
        "Certificates of the authorities that may vouch for the provider, instead of the system's.",
        "a path",
        "config/hospital-ca.pem",
    )


def check_oidc(settings: OidcSettings) -> None:
    """Raises Invalid for settings that do not go together."""
    if settings.oidc_issuer and not settings.oidc_client_id:
        raise Invalid("OIDC_ISSUER is set, and OIDC_CLIENT_ID is not", "OIDC_CLIENT_ID")
    if "*" in settings.oidc_admin:
        raise Invalid("OIDC_ADMIN=* would make everybody an administrator", "OIDC_ADMIN")
