"""Who is let in without logging in."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from pacs.dicom.model import Role
from pacs.protection import anonymous
from pacs.settings import load
from pacs.web.login import is_direct
from pacs.web.offered import all_operations


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Host": "127.0.0.1:8081"}, True),
        ({"Host": "localhost:8081"}, True),
        ({"Host": "LOCALHOST"}, True),
        ({"Host": "[::1]:8081"}, True),
        ({"Host": "[::1]"}, True),
        ({"Host": "127.0.0.1"}, True),
        ({}, True),
        ({"Host": "evil.example:8081"}, False),
        ({"Host": "localhost.evil.example:8081"}, False),
        ({"Host": "127.0.0.1.evil.example"}, False),
        ({"Host": "192.0.2.1:8081"}, False),
        ({"Host": "localhost:80@evil.example"}, False),
        ({"Host": "127.0.0.1:8081", "X-Forwarded-For": "127.0.0.1"}, False),
        ({"Host": "127.0.0.1:8081", "Forwarded": "for=192.0.2.1"}, False),
        ({"Host": "127.0.0.1:8081", "Via": "1.1 proxy"}, False),
        ({"Host": "127.0.0.1:8081", "X-Real-IP": "192.0.2.1"}, False),
        ({"Host": "127.0.0.1:8081", "X-Forwarded-Proto": "https"}, False),
    ],
    ids=str,
)
def test_what_came_straight_from_this_machine(headers: dict[str, str], expected: bool) -> None:
    assert is_direct(make_mocked_request("GET", "/", headers)) is expected


_OUT = "0.0.0.0"  # noqa: S104
_FORWARDED = {"Host": "pacs.example", "X-Forwarded-For": "192.0.2.1"}


@pytest.mark.parametrize(
    ("values", "here", "here_with_accounts", "forwarded"),
    [
        ({}, Role.ADMIN, None, None),
        ({"ADMIN_API": "false"}, Role.WRITER, None, None),
        ({"ADMIN_API": "true"}, Role.ADMIN, None, None),
        ({"TRUSTED_PROXIES": "127.0.0.1"}, Role.ADMIN, None, None),
        ({"ALLOW_ANONYMOUS": "reader"}, Role.READER, Role.READER, Role.READER),
        ({"ALLOW_ANONYMOUS": "writer"}, Role.WRITER, Role.WRITER, Role.WRITER),
        ({"ALLOW_ANONYMOUS": "true"}, Role.ADMIN, Role.ADMIN, Role.WRITER),
        ({"ALLOW_ANONYMOUS": "true", "ADMIN_API": "true"}, Role.ADMIN, Role.ADMIN, Role.ADMIN),
        ({"ALLOW_ANONYMOUS": "false"}, None, None, None),
        ({"SERVER_HOST": _OUT}, None, None, None),
        ({"SERVER_HOST": _OUT, "ADMIN_API": "true"}, None, None, None),
        ({"SERVER_HOST": _OUT, "ALLOW_ANONYMOUS": "true"}, Role.WRITER, Role.WRITER, Role.WRITER),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()) or "usual" if isinstance(value, dict) else None,
)
def test_what_those_may_do_who_are_not_known(
    values: dict[str, str],
    here: Role | None,
    here_with_accounts: Role | None,
    forwarded: Role | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = str(tmp_path_factory.mktemp("home"))
    rule = anonymous(load(environment={"PACS_HOME": home, **values}).settings)
    direct = make_mocked_request("GET", "/", {"Host": "127.0.0.1:8081"})
    assert rule.role(direct, has_accounts=False) == here
    assert rule.role(direct, has_accounts=True) == here_with_accounts
    for has_accounts in (False, True):
        assert rule.role(make_mocked_request("GET", "/", _FORWARDED), has_accounts=has_accounts) == forwarded


def test_what_is_declared_twice_takes_the_same_role_each_time() -> None:
    roles: dict[tuple[str, str], set[Role]] = {}
    for operation in all_operations(with_delete=True, with_administration=True):
        roles.setdefault((operation.method, operation.path), set()).add(operation.role)
    assert len(roles) > 80
    assert {route: found for route, found in roles.items() if len(found) > 1} == {}
