"""When a server may be started: beyond this machine only on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacs import gate, settings
from pacs.errors import Invalid

_OUT = "0.0.0.0"  # noqa: S104
WEB, DIMSE = {"SERVER_HOST": _OUT}, {"DIMSE_HOSTNAME": _OUT}


def refusal(folder: Path, values: dict[str, str], *, has_accounts: bool = False) -> str:
    loaded = settings.load(environment={"PACS_HOME": str(folder), **values}).settings
    try:
        gate.check(loaded, has_accounts=has_accounts)
    except Invalid as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("values", "has_accounts", "is_refused"),
    [
        ({}, False, False),
        ({"SERVER_HOST": "localhost", "DIMSE_HOSTNAME": "::1"}, False, False),
        (WEB, False, True),
        ({"SERVER_HOST": "::"}, False, True),
        ({"SERVER_HOST": "pacs.example"}, False, True),
        (WEB, True, False),
        (WEB | {"ALLOW_ANONYMOUS": "true"}, False, False),
        (WEB | {"ALLOW_ANONYMOUS": "reader"}, False, False),
        (WEB | {"ALLOW_ANONYMOUS": "false"}, False, True),
        ({"ALLOW_ANONYMOUS": "false"}, False, True),
        ({"ALLOW_ANONYMOUS": "false"}, True, False),
        (WEB | {"ADMIN_API": "true"}, False, True),
        (WEB | {"OIDC_ISSUER": "https://login.example", "OIDC_CLIENT_ID": "pacs"}, False, False),
        (WEB | {"TRUSTED_PROXIES": "127.0.0.1"}, False, True),
        (DIMSE, False, True),
        (DIMSE, True, True),
        (DIMSE | {"ENABLE_DIMSE": "false"}, False, False),
        (DIMSE | {"DIMSE_STRICT": "true"}, False, False),
        (DIMSE | {"DIMSE_USER_REQUIRED": "true"}, False, False),
        (DIMSE | {"DIMSE_USERS": "users"}, False, True),
        (DIMSE | {"DIMSE_ALLOW_ANONYMOUS": "true"}, False, False),
        (DIMSE | {"ALLOW_ANONYMOUS": "true"}, False, False),
        (DIMSE | {"ALLOW_ANONYMOUS": "writer"}, False, True),
        (DIMSE | {"DIMSE_TLS_PORT": "2762"}, False, True),
        (DIMSE | {"DIMSE_TLS_PORT": "2762", "DIMSE_PORT": "0"}, False, False),
        (DIMSE | {"DIMSE_TLS_PORT": "2762", "DIMSE_PORT": "0", "DIMSE_TLS_CLIENTS": "optional"}, False, True),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None,
)
def test_beyond_this_machine_on_purpose_only(
    tmp_path: Path, values: dict[str, str], has_accounts: bool, is_refused: bool
) -> None:
    assert bool(refusal(tmp_path, values, has_accounts=has_accounts)) is is_refused


def test_the_refusal_says_what_to_type_for_both(tmp_path: Path) -> None:
    said = refusal(tmp_path, WEB | DIMSE)
    for line in ("pacs account add NAME", "ADMIN_PASSWORD=", "ALLOW_ANONYMOUS=true", "DIMSE_STRICT=true", ".env"):
        assert line in said
