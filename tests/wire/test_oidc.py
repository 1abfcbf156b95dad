"""OpenID Connect against a real provider in a process of its own: the code flow, and tokens that do not hold."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization

from tests import builders
from tests.clients.needs import needs
from tests.oidc_provider import CLIENT_ID, PROGRAM, IdentityProvider, KeyPair, walk
from tests.server import Server
from tests.wire.clients import STOW_TYPE, multipart

pytestmark = needs("node", npm_packages=["oidc-provider"])
CSRF = "X-Pacs-Csrf"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(tmp_path_factory.mktemp("archive"), {"SERVER_WORKERS": "2"})


@pytest.fixture(scope="module")
def provider(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    with IdentityProvider(tmp_path_factory.mktemp("provider"), server.dicomweb_url) as running:
        server.env.update(running.settings())
        with server:
            yield running


def callback(server: Server, session: requests.Session, name: str, place: str = "") -> str:
    """The address that the provider sends a browser back to, not yet gone to."""
    query = f"?{urlencode({'next': place})}" if place else ""
    return walk(session, f"{server.dicomweb_url}/session/oidc{query}", name, server.dicomweb_url)


def go(session: requests.Session, url: str) -> str:
    """Where the archive then sends the browser, without its own address."""
    answer = session.get(url, allow_redirects=False, timeout=30)
    assert answer.status_code == 303, answer.text
    return answer.headers["Location"].partition("/#")[2]


def who(server: Server, session: requests.Session) -> dict[str, Any]:
    found: dict[str, Any] = session.get(f"{server.dicomweb_url}/session", timeout=30).json()
    return found


def changed(url: str, **query: str | None) -> str:
    parts = urlsplit(url)
    found: dict[str, str | None] = {name: values[0] for name, values in parse_qs(parts.query).items()} | query
    kept = {name: value for name, value in found.items() if value is not None}
    return urlunsplit(parts._replace(query=urlencode(kept)))


# -- people


def test_one_logs_in_comes_to_where_one_wanted_and_logs_out_there_too(
    server: Server, provider: IdentityProvider
) -> None:
    session = requests.Session()
    nobody = who(server, session)
    assert (nobody["role"], nobody["ways"]) == ("none", ["oidc"])
    assert session.get(f"{server.dicomweb_url}/studies", timeout=30).status_code == 401
    place = "/studies/1.2.3?tab=tags"
    assert go(session, callback(server, session, "wanda.pacs-writer", place)) == place
    known = who(server, session)
    assert (known["name"], known["role"], known["via"]) == ("wanda", "writer", "oidc")
    assert session.get(f"{server.dicomweb_url}/studies", timeout=30).status_code in (200, 204)
    assert session.put(f"{server.dicomweb_url}/studies/1.2/labels/x", timeout=30).status_code == 403  # no CSRF token
    session.headers[CSRF] = known["csrf"]
    assert session.put(f"{server.dicomweb_url}/studies/1.2/labels/x", timeout=30).status_code == 404
    cookies = session.cookies.copy()
    ended = session.delete(f"{server.dicomweb_url}/session", timeout=30)
    there = urlsplit(ended.json()["logout"])
    assert f"{there.scheme}://{there.netloc}" == provider.issuer
    assert parse_qs(there.query) == {
        "client_id": [CLIENT_ID],
        "post_logout_redirect_uri": [f"{server.http_url}/"],
    }
    assert requests.get(ended.json()["logout"], timeout=60).status_code == 200
    session.cookies = cookies
    assert eventually(lambda: who(server, session)["role"] == "none")


def eventually(check: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("ann.pacs-reader", "reader"),
        ("bob.pacs-writer", "writer"),
        ("cy.pacs-admin", "admin"),
        ("dee.pacs-reader.pacs-admin", "admin"),
        ("eve.pacs-writer.other", "writer"),
    ],
)
def test_roles_of_the_provider_become_roles_here(
    server: Server, provider: IdentityProvider, name: str, role: str
) -> None:
    session = requests.Session()
    assert go(session, callback(server, session, name)) == "/studies"
    assert who(server, session)["role"] == role
    accounts = session.get(f"{server.dicomweb_url}/accounts", timeout=30)
    assert accounts.status_code == (200 if role == "admin" else 403)


@pytest.mark.parametrize("name", ["fay", "gus.other", "hal.PACS-ADMIN"])
def test_who_has_no_role_at_the_provider_is_told_so(server: Server, provider: IdentityProvider, name: str) -> None:
    session = requests.Session()
    assert go(session, callback(server, session, name)) == "/login?failed=role"
    assert who(server, session)["role"] == "none"


def test_one_who_is_named_as_an_account_is_not_that_account(server: Server, provider: IdentityProvider) -> None:
    made = server.pacs("account", "add", "boss", "--password-stdin", input_text="correct horse\n")
    assert made.returncode == 0, made.stderr
    session = requests.Session()
    go(session, callback(server, session, "boss.pacs-reader"))
    known = who(server, session)
    assert (known["name"], known["role"]) == ("boss", "reader")
    session.headers[CSRF] = known["csrf"]
    made_token = session.post(f"{server.dicomweb_url}/tokens", json={"name": "mine"}, timeout=30)
    assert made_token.status_code == 403
    body = {"old": "correct horse", "new": "another horse"}
    assert session.post(f"{server.dicomweb_url}/session/password", json=body, timeout=30).status_code == 403
    assert eventually(lambda: who(server, requests.Session())["ways"] == ["password", "oidc"])
    assert server.pacs("account", "remove", "boss", "--last").returncode == 0


@pytest.mark.parametrize(
    "place", ["https://evil.example/", "//evil.example", "/\\evil.example", "evil", "/a\r\nX: y", "/" + "x" * 1001]
)
def test_a_log_in_leads_to_no_other_site(server: Server, provider: IdentityProvider, place: str) -> None:
    session = requests.Session()
    assert go(session, callback(server, session, "ann.pacs-reader", place)) == "/studies"


def test_an_answer_counts_in_the_browser_that_asked_for_it_alone(server: Server, provider: IdentityProvider) -> None:
    session, other = requests.Session(), requests.Session()
    url = callback(server, session, "wanda.pacs-writer")
    assert go(other, url) == "/login?failed=state"
    callback(server, other, "ann.pacs-reader")  # it has a log-in of its own under way
    assert go(other, url) == "/login?failed=state"
    assert who(server, other)["role"] == "none"
    assert go(session, url) == "/studies"


@pytest.mark.parametrize(
    ("query", "failed"),
    [
        ({"state": "made-up"}, "state"),
        ({"state": None}, "state"),
        ({"code": "made-up"}, "refused"),
        ({"code": None}, "denied"),
        ({"iss": "https://evil.example"}, "refused"),
        ({"iss": None}, "refused"),
        ({"code": None, "error": "access_denied"}, "denied"),
    ],
    ids=str,
)
def test_an_answer_that_was_tampered_with_is_refused(
    server: Server, provider: IdentityProvider, query: dict[str, str | None], failed: str
) -> None:
    session = requests.Session()
    url = callback(server, session, "wanda.pacs-writer")
    assert go(session, changed(url, **query)) == f"/login?failed={failed}"
    assert who(server, session)["role"] == "none"


def test_a_code_of_another_log_in_is_refused(server: Server, provider: IdentityProvider) -> None:
    """Injected into somebody's browser: neither its verifier nor its nonce are that browser's."""
    attacker, victim = requests.Session(), requests.Session()
    stolen = parse_qs(urlsplit(callback(server, attacker, "wanda.pacs-writer")).query)["code"][0]
    url = callback(server, victim, "ann.pacs-reader")
    assert go(victim, changed(url, code=stolen)) == "/login?failed=refused"


def test_an_answer_cannot_be_replayed(server: Server, provider: IdentityProvider) -> None:
    session = requests.Session()
    url = callback(server, session, "wanda.pacs-writer")
    cookies = session.cookies.copy()
    assert go(session, url) == "/studies"
    assert go(session, url) == "/login?failed=state"  # its cookie is gone
    again = requests.Session()
    again.cookies = cookies
    assert go(again, url) == "/login?failed=refused"  # and the code was used
    assert who(server, again)["role"] == "none"


# -- programs


def ask(server: Server, token: str) -> requests.Response:
    return requests.get(f"{server.dicomweb_url}/studies", headers={"Authorization": f"Bearer {token}"}, timeout=60)


def test_a_program_shows_the_token_that_the_provider_gave_it(server: Server, provider: IdentityProvider) -> None:
    token = provider.access_token()
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    headers = {"Authorization": f"Bearer {token}"}
    known = requests.get(f"{server.dicomweb_url}/session", headers=headers, timeout=60).json()
    assert (known["name"], known["role"], known["via"]) == (PROGRAM, "writer", "oidc")
    kind = {"Content-Type": STOW_TYPE, "Accept": "application/dicom+json"}
    stored = requests.post(
        f"{server.dicomweb_url}/studies", data=multipart([builders.ct()]), headers={**headers, **kind}, timeout=30
    )
    assert stored.status_code == 200, stored.text
    assert len(ask(server, token).json()) == 1
    assert requests.get(f"{server.dicomweb_url}/jobs", headers=headers, timeout=60).status_code == 403


def _unsigned(claims: dict[str, Any], algorithm: str) -> str:
    def packed(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{packed({'alg': algorithm, 'typ': 'JWT', 'kid': 'first'})}.{packed(claims)}."


def _hmac(provider: IdentityProvider, encoding: serialization.Encoding) -> str:
    """Signed with the public key as if it were a secret, which everybody knows."""
    head = _unsigned(provider.claims("pacs-admin"), "HS256").rstrip(".")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    secret = provider.keys[0].private.public_key().public_bytes(encoding, form)
    made = hmac.new(secret, head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"


def _now() -> int:
    return int(time.time())


_Maker = Callable[[IdentityProvider], str]
_WRONG: dict[str, _Maker] = {
    "expired": lambda p: p.keys[0].sign(p.claims("pacs-admin", exp=_now() - 60, iat=_now() - 120)),
    "without exp": lambda p: p.keys[0].sign(p.claims("pacs-admin", exp=None)),
    "without iat": lambda p: p.keys[0].sign(p.claims("pacs-admin", iat=None)),
    "exp no number": lambda p: p.keys[0].sign(p.claims("pacs-admin", exp="never")),
    "not yet": lambda p: p.keys[0].sign(p.claims("pacs-admin", nbf=_now() + 120)),
    "made in the future": lambda p: p.keys[0].sign(p.claims("pacs-admin", iat=_now() + 120)),
    "another audience": lambda p: p.keys[0].sign(p.claims("pacs-admin", aud="https://other.example")),
    "other audiences": lambda p: p.keys[0].sign(p.claims("pacs-admin", aud=["a", "b"])),
    "without audience": lambda p: p.keys[0].sign(p.claims("pacs-admin", aud=None)),
    "another issuer": lambda p: p.keys[0].sign(p.claims("pacs-admin", iss="https://evil.example")),
    "issuer with a slash": lambda p: p.keys[0].sign(p.claims("pacs-admin", iss=f"{p.issuer}/")),
    "without issuer": lambda p: p.keys[0].sign(p.claims("pacs-admin", iss=None)),
    "forged: another key of the same name": lambda p: KeyPair("first").sign(p.claims("pacs-admin")),
    "forged: a key of another name": lambda p: KeyPair("second").sign(p.claims("pacs-admin")),
    "forged: a key without name": lambda p: KeyPair("x").sign(p.claims("pacs-admin"), kid=None),
    "forged: its own key in the header": lambda p: (pair := KeyPair("first")).sign(
        p.claims("pacs-admin"), jwk={"kty": "RSA", "n": pair.jwk()["n"], "e": "AQAB"}
    ),
    "none": lambda p: _unsigned(p.claims("pacs-admin"), "none"),
    "None": lambda p: _unsigned(p.claims("pacs-admin"), "None"),
    "RS256 without signature": lambda p: _unsigned(p.claims("pacs-admin"), "RS256"),
    "HS256 with the public key as PEM": lambda p: _hmac(p, serialization.Encoding.PEM),
    "HS256 with the public key as DER": lambda p: _hmac(p, serialization.Encoding.DER),
    "an ID token": lambda p: p.keys[0].sign(p.claims("pacs-admin", at_hash="x")),
    "a log-out token": lambda p: p.keys[0].sign(p.claims("pacs-admin", events={}), typ="logout+jwt"),
    "Keycloak's refresh token": lambda p: p.keys[0].sign(p.claims("pacs-admin", typ="Refresh")),
    "with what is critical": lambda p: p.keys[0].sign(p.claims("pacs-admin"), crit=["x"], x=1),
    "of another key of the set's kind": lambda p: p.keys[0].sign(p.claims("pacs-admin"))[:-6] + "AAAAAA",
    "with other claims": lambda p: _swapped(p.keys[0].sign(p.claims("pacs-reader")), p.claims("pacs-admin")),
    "no token": lambda p: "a.b.c",
}


def _swapped(token: str, claims: dict[str, Any]) -> str:
    head, _, signature = token.split(".")
    return f"{head}.{_unsigned(claims, 'RS256').split('.')[1]}.{signature}"


@pytest.mark.parametrize("what", _WRONG)
def test_a_token_that_does_not_hold_opens_nothing(server: Server, provider: IdentityProvider, what: str) -> None:
    answer = ask(server, _WRONG[what](provider))
    assert answer.status_code == 401
    assert "Bearer" in answer.headers["WWW-Authenticate"]
    # The same but for what is wrong with it is let in.
    assert ask(server, provider.keys[0].sign(provider.claims("pacs-admin"))).status_code in (200, 204)


@pytest.mark.parametrize(
    ("headers", "claims"),
    [
        ({}, {}),
        ({"typ": "JWT"}, {"typ": "Bearer"}),
        ({"typ": "application/at+jwt"}, {}),
        ({"kid": None}, {}),
        ({}, {"aud": ["account", "https://pacs.example/api"]}),
        ({}, {"exp": int(time.time()) - 3 + 3600, "nbf": int(time.time()) - 3}),
    ],
    ids=["plain", "Keycloak's", "RFC 9068", "without a key's name", "two audiences", "nbf"],
)
def test_tokens_of_several_forms_hold(
    server: Server, provider: IdentityProvider, headers: dict[str, Any], claims: dict[str, Any]
) -> None:
    token = provider.keys[0].sign(provider.claims("pacs-reader", **claims), **headers)
    assert ask(server, token).status_code in (200, 204)


@pytest.mark.parametrize(
    ("roles", "read", "write", "administrate"),
    [
        ([], 403, 403, 403),
        (["other"], 403, 403, 403),
        (["pacs-reader"], 200, 403, 403),
        (["pacs-writer"], 200, 404, 403),
        (["pacs-admin"], 200, 404, 200),
        (["pacs-reader", "pacs-writer"], 200, 404, 403),
    ],
    ids=str,
)
def test_a_token_may_what_its_roles_may(
    server: Server, provider: IdentityProvider, roles: list[str], read: int, write: int, administrate: int
) -> None:
    headers = {"Authorization": f"Bearer {provider.keys[0].sign(provider.claims(*roles))}"}
    url = server.dicomweb_url
    assert requests.get(f"{url}/labels", headers=headers, timeout=60).status_code == read
    assert requests.put(f"{url}/studies/1.2/labels/x", headers=headers, timeout=60).status_code == write
    assert requests.get(f"{url}/accounts", headers=headers, timeout=60).status_code == administrate


# -- keys that change, a provider that is away


def test_a_new_key_is_looked_for_and_the_old_one_no_longer_taken(server: Server, provider: IdentityProvider) -> None:
    old = provider.keys[0]
    assert ask(server, old.sign(provider.claims("pacs-reader"))).status_code in (200, 204)
    provider.rotate()

    def statuses(pair: KeyPair) -> set[int]:
        return {ask(server, pair.sign(provider.claims("pacs-reader"))).status_code for _ in range(6)}

    assert eventually(lambda: statuses(provider.keys[0]) <= {200, 204})  # on both workers, after a pause at most
    assert eventually(lambda: statuses(old) == {401})


def test_made_up_keys_do_not_make_the_archive_ask_for_each(server: Server, provider: IdentityProvider) -> None:
    asked_before = server.log().count("provider")
    began = time.monotonic()
    for number in range(40):
        token = provider.keys[0].sign(provider.claims("pacs-admin"), kid=f"made-up-{number}")
        assert ask(server, token).status_code == 401
    assert time.monotonic() - began < 20
    assert server.log().count("provider") == asked_before


def test_the_archive_starts_while_the_provider_is_away_and_finds_it_later(tmp_path: Path) -> None:
    server = Server(tmp_path / "archive")
    provider = IdentityProvider(tmp_path / "provider", server.dicomweb_url, in_id_token=False)
    server.env.update(provider.settings(OIDC_CLIENT_ID="public", OIDC_CLIENT_SECRET=""))
    with server:
        session = requests.Session()
        assert go(session, f"{server.dicomweb_url}/session/oidc") == "/login?failed=away"
        token = provider.keys[0].sign(provider.claims("pacs-reader"))
        assert ask(server, token).status_code == 503
        assert "provider is away" in server.log()
        with provider:
            assert eventually(lambda: ask(server, token).status_code in (200, 204))
            # A public client; name and roles are told by userinfo alone.
            assert go(session, callback(server, session, "wanda.pacs-writer")) == "/studies"
            known = who(server, session)
            assert (known["name"], known["role"]) == ("wanda", "writer")
        assert ask(server, token).status_code in (200, 204)  # its keys are known
        assert go(requests.Session(), changed(f"{server.dicomweb_url}/session/oidc/callback", state="x")) == (
            "/login?failed=state"
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"OIDC_ISSUER": "http://login.example", "OIDC_CLIENT_ID": "pacs"}, "OIDC_ISSUER"),
        ({"OIDC_ISSUER": "https://login.example"}, "OIDC_CLIENT_ID"),
        ({"OIDC_ISSUER": "https://login.example", "OIDC_CLIENT_ID": "pacs", "OIDC_ADMIN": "*"}, "OIDC_ADMIN"),
        ({"OIDC_ISSUER": "https://x.example", "OIDC_CLIENT_ID": "p", "OIDC_TLS_CA_FILE": "no.pem"}, "OIDC_TLS_CA_FILE"),
    ],
    ids=["without TLS", "no client", "everybody an administrator", "no certificates"],
)
def test_settings_that_mean_nothing_are_refused_at_the_start(
    tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    run = Server(tmp_path, settings).pacs("serve", timeout_s=60)
    assert run.returncode == 2
    assert words in run.stdout + run.stderr
