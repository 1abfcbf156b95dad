"""Users and tokens that identities are checked against."""

from __future__ import annotations

import logging
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pacs.dicom.model import Role
from pacs.dimse.user import Identities, Identity, IdentityType, Verdict
from pacs.dimse.users import Tokens, Users, hashed, parse_users
from pacs.errors import Invalid
from pacs.peering import unlimited
from pacs.services.access import Principal

SECRET_HASH = hashed("secret")


def with_passcode(name, passcode, **options):
    return Identity(IdentityType.USERNAME_PASSCODE, name.encode(), passcode.encode(), **options)


def name_alone(name):
    return Identity(IdentityType.USERNAME, name.encode())


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "users"
    file.write_text(f"# users\n\njürgen:{SECRET_HASH}\nconsole:*\n")
    return file


def test_who_knows_the_passcode_is_the_user_and_nobody_else(path):
    users = Users(path)
    assert users.check(with_passcode("jürgen", "secret")) == "jürgen"
    for identity in (
        with_passcode("jürgen", "wrong"),
        with_passcode("jürgen", ""),
        with_passcode("nobody", "secret"),
        with_passcode("console", "*"),
        name_alone("jürgen"),
        name_alone("nobody"),
    ):
        assert users.check(identity) is None, identity
    assert users.check(name_alone("console")) == "console"


def test_two_hashes_of_a_passcode_differ():
    assert hashed("secret") != SECRET_HASH


def of_file(path):
    return unlimited(Users(path).check)


@pytest.mark.parametrize(
    "line", ["name", ":*", "name:", "name:secret", "a\tb:*", "name:$scrypt$ln=40,r=8,p=1$AAAA$AAAA"]
)
def test_a_line_that_is_none_is_named(line):
    with pytest.raises(ValueError, match="line 2"):
        parse_users(f"# comment\n{line}\n")


def test_a_change_holds_at_once_and_a_broken_one_never(path, caplog):
    users = Users(path)
    path.write_text("new:*\n")
    assert users.check(name_alone("new")) == "new"
    assert users.check(name_alone("console")) is None
    with caplog.at_level(logging.ERROR):
        path.write_text("new\n")
        assert users.check(name_alone("new")) == "new"
        path.unlink()
        assert users.check(name_alone("new")) == "new"
    assert len(caplog.records) == 2


def test_a_file_that_cannot_be_used_is_refused_at_the_start(tmp_path):
    with pytest.raises(Invalid, match="No such file"):
        Users(tmp_path / "none")
    (tmp_path / "users").write_text("nonsense\n")
    with pytest.raises(Invalid, match="line 1"):
        Users(tmp_path / "users")


@pytest.fixture(scope="module")
def signer():
    return ec.generate_private_key(ec.SECP256R1())


def public(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def token(key, algorithm="ES256", **claims):
    whole = {"sub": "u1", "exp": time.time() + 60, "aud": "pacs", **claims}
    claims = {name: value for name, value in whole.items() if value is not None}
    return Identity(IdentityType.JWT, jwt.encode(claims, key, algorithm).encode())


def test_a_token_holds_when_it_is_signed_in_time_and_for_us(tmp_path, signer, caplog):
    path = tmp_path / "key.pem"
    path.write_bytes(public(signer))
    tokens = Tokens(path, "pacs")
    assert tokens.check(token(signer)) == "u1"
    assert tokens.check(token(signer, preferred_username="anna")) == "anna"
    other = ec.generate_private_key(ec.SECP256R1())
    for wrong in (
        token(other),
        token(signer, exp=time.time() - 60),
        token(signer, exp=None),
        token(signer, aud="elsewhere"),
        token(signer, sub=None),
        token(None, "none"),
        token("x" * 64, "HS256"),
        Identity(IdentityType.JWT, b"garbage"),
    ):
        assert tokens.check(wrong) is None, wrong
    path.write_bytes(public(other))
    assert tokens.check(token(other)) == "u1"


def test_a_key_that_is_none_is_refused_at_the_start(tmp_path):
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(Invalid, match="not a public key"):
        Tokens(tmp_path / "key.pem")
    with pytest.raises(Invalid, match="No such file"):
        Tokens(tmp_path / "none.pem")


@pytest.mark.parametrize("is_required", [False, True])
@pytest.mark.parametrize("kind", [None, IdentityType.KERBEROS, IdentityType.SAML, IdentityType.JWT, 77])
def test_what_cannot_be_verified_is_no_identity(path, is_required, kind):
    identities = Identities({IdentityType.USERNAME: of_file(path)}, is_required)
    identity = Identity(kind, b"ticket", wants_answer=True) if kind else None
    assert identities.decide(identity) == Verdict(is_refused=is_required)


def test_a_user_is_confirmed_when_that_was_asked(path):
    identities = Identities({IdentityType.USERNAME_PASSCODE: of_file(path)})
    someone = Principal("jürgen", Role.ADMIN, via="dimse")
    assert identities.decide(with_passcode("jürgen", "secret")) == Verdict(user=someone)
    asked = identities.decide(with_passcode("jürgen", "secret", wants_answer=True))
    assert asked == Verdict(user=someone, is_answered=True)
    assert identities.decide(with_passcode("jürgen", "wrong", wants_answer=True)) == Verdict(is_refused=True)
