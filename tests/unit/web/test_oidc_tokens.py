"""Tokens of a provider: which keys may sign, and what claims make of somebody."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pacs.dicom.model import Role
from pacs.errors import Unauthorized
from pacs.web.oidc_tokens import ALGORITHMS, Naming, at, check_id_token, claims_of, header_of, keys_of

_PRIVATE: dict[str, Any] = {
    "RSA": rsa.generate_private_key(65537, 2048),
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}
_ISSUER, _AUDIENCE = "https://login.example", "pacs"


def public(kind: str, **more: Any) -> dict[str, Any]:
    algorithm = {"RSA": "RS256", "P-256": "ES256", "P-384": "ES384", "Ed25519": "EdDSA"}[kind]
    maker = jwt.get_algorithm_by_name(algorithm)
    return {**json.loads(maker.to_jwk(_PRIVATE[kind].public_key())), "kid": kind, **more}


def token(kind: str, algorithm: str, **more: Any) -> str:
    now = int(time.time())
    claims = {"iss": _ISSUER, "aud": _AUDIENCE, "sub": "x", "iat": now, "exp": now + 60, **more}
    return jwt.encode(claims, _PRIVATE[kind], algorithm, {"kid": kind})


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("RSA", "RS256"),
        ("RSA", "RS512"),
        ("RSA", "PS256"),
        ("P-256", "ES256"),
        ("P-384", "ES384"),
        ("Ed25519", "EdDSA"),
    ],
)
def test_a_token_of_each_kind_of_key_holds(kind: str, algorithm: str) -> None:
    keys = keys_of({"keys": [public(each) for each in _PRIVATE]})
    found = claims_of(token(kind, algorithm), keys, issuer=_ISSUER, audience=_AUDIENCE)
    assert found["sub"] == "x"


def test_a_key_for_one_algorithm_is_used_for_no_other() -> None:
    keys = keys_of({"keys": [public("RSA", alg="RS256")]})
    assert claims_of(token("RSA", "RS256"), keys, issuer=_ISSUER, audience=_AUDIENCE)
    with pytest.raises(Unauthorized, match="does not have"):
        claims_of(token("RSA", "PS256"), keys, issuer=_ISSUER, audience=_AUDIENCE)


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
        {"kty": "RSA", "kid": "half"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {**public("RSA"), "use": "enc"},
        {**public("RSA"), "alg": "HS256"},
        {**public("RSA"), "alg": "none"},
        "no object",
        None,
    ],
    ids=["secret", "secret with its use", "half", "curve", "for encryption", "for HMAC", "for nothing", "text", "null"],
)
def test_what_is_no_public_key_that_signs_is_left_out(key: object) -> None:
    assert keys_of({"keys": [key]}) == []
    assert [each.key_id for each in keys_of({"keys": [key, public("RSA")]})] == ["RSA"]


@pytest.mark.parametrize("found", [None, [], {}, {"keys": None}, {"keys": "RSA"}], ids=str)
def test_what_is_no_set_of_keys_has_none(found: object) -> None:
    assert keys_of(found) == []


def test_only_asymmetric_algorithms_are_taken() -> None:
    assert not any(name.startswith("HS") or name.lower() == "none" for name in ALGORITHMS)


@pytest.mark.parametrize(
    "text", ["", "a.b.c", "..", "x" * 20_000, "a.b", "ünïcode.a.b"], ids=lambda text: text[:8] or "no text"
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(Unauthorized):
        header_of(text)


_CLIENT = {"client_id": "pacs", "nonce": "n"}


@pytest.mark.parametrize(
    ("claims", "is_right"),
    [
        ({"aud": "pacs", "nonce": "n"}, True),
        ({"aud": ["pacs"], "nonce": "n"}, True),
        ({"aud": "pacs", "azp": "pacs", "nonce": "n"}, True),
        ({"aud": ["pacs", "other"], "azp": "pacs", "nonce": "n"}, True),
        ({"aud": ["pacs", "other"], "nonce": "n"}, False),
        ({"aud": ["pacs", "other"], "azp": "other", "nonce": "n"}, False),
        ({"aud": "pacs", "azp": "other", "nonce": "n"}, False),
        ({"aud": "pacs", "nonce": "m"}, False),
        ({"aud": "pacs"}, False),
    ],
    ids=str,
)
def test_an_id_token_is_of_this_client_and_this_log_in(claims: dict[str, Any], is_right: bool) -> None:
    try:
        check_id_token(claims, **_CLIENT)
    except Unauthorized:
        assert not is_right
    else:
        assert is_right


_VALUES = {Role.READER: frozenset({"r", "r2"}), Role.WRITER: frozenset({"w"}), Role.ADMIN: frozenset({"a"})}


@pytest.mark.parametrize(
    ("said", "role"),
    [
        (["r"], Role.READER),
        (["r2", "something"], Role.READER),
        (["w"], Role.WRITER),
        (["a"], Role.ADMIN),
        (["r", "w"], Role.WRITER),
        (["a", "r"], Role.ADMIN),
        ("w", Role.WRITER),
        ("r a", Role.ADMIN),
        (["R"], None),
        (["ra"], None),
        ([], None),
        ("", None),
        (["*"], None),
        ("*", None),
        ([1, None, ["a"]], None),
        ({"a": True}, None),
        (None, None),
        (True, None),
    ],
    ids=str,
)
def test_the_highest_role_that_a_claim_gives_counts(said: object, role: Role | None) -> None:
    naming = Naming("name", "roles", _VALUES)
    assert naming.role({"roles": said}) == role


def test_a_star_lets_everybody_in() -> None:
    naming = Naming("name", "roles", {**_VALUES, Role.READER: frozenset({"*"})})
    assert naming.role({}) == Role.READER
    assert naming.role({"roles": ["w"]}) == Role.WRITER


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("groups", 1),
        ("realm_access.roles", 2),
        ("https://pacs.example/roles", 3),
        ("resource_access.my.client.roles", 4),
        ("realm_access.nothing", None),
        ("groups.deeper", None),
        ("nothing", None),
    ],
)
def test_a_path_leads_to_a_claim(path: str, expected: object) -> None:
    claims = {
        "groups": 1,
        "realm_access": {"roles": 2},
        "https://pacs.example/roles": 3,
        "resource_access": {"my.client": {"roles": 4}},
    }
    assert at(claims, path) == expected


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"name": "Wanda", "sub": "1"}, "Wanda"),
        ({"name": "", "sub": "1"}, "1"),
        ({"name": 5, "sub": "1"}, "1"),
        ({"sub": "a\nb\x1b[31m"}, "ab[31m"),
        ({"name": "x" * 200}, "x" * 64),
    ],
    ids=["claim", "empty", "number", "control characters", "long"],
)
def test_somebody_has_a_name_that_can_be_shown(claims: dict[str, Any], name: str) -> None:
    assert Naming("name", "roles", _VALUES).name(claims) == name
