"""Tokens of an OpenID Connect provider: whether they hold, and what they say of somebody.

Signatures are of public keys alone: neither ``none`` nor an HMAC, which a public key as its secret would satisfy, is
ever looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.types import Options

from pacs.dicom.model import Role
from pacs.errors import Unauthorized
from pacs.services.access import Principal

_LEEWAY_S = 30
_LONGEST = 16_384  # characters of a token
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ALGORITHMS = frozenset({*_RSA, *_CURVES.values(), "EdDSA"})
_TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
# Claims of ID tokens and log-out tokens, which are no leave to call anything.
_FOREIGN = frozenset({"at_hash", "c_hash", "s_hash", "events"})
_FOREIGN_TYPES = frozenset({"id", "refresh", "offline", "logout"})  # Keycloak's claim typ
_MOST_KEYS = 50


@dataclass(frozen=True, slots=True)
class Key:
    """One public key, and the algorithms that it may be used with."""

    key_id: str | None
    algorithms: frozenset[str]
    key: jwt.PyJWK


def keys_of(found: object) -> list[Key]:
    """Those of a JWK set (RFC 7517) that sign; what we cannot use is left out."""
    listed = found.get("keys") if isinstance(found, dict) else None
    keys = []
    for each in (listed if isinstance(listed, list) else [])[:_MOST_KEYS]:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        algorithms = _algorithms(each)
        try:
            # Which algorithm is used is decided for each token, among these.
            key = jwt.PyJWK(each, min(algorithms)) if algorithms else None
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if key is not None:
            key_id = each.get("kid")
            keys.append(Key(key_id if isinstance(key_id, str) else None, algorithms, key))
    return keys


def header_of(token: str) -> Mapping[str, Any]:
    """Raises Unauthorized for what is no signed token, or of an algorithm that is not taken."""
    if len(token) > _LONGEST:
        raise Unauthorized("the token is too long")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError) as error:
        raise Unauthorized("this is no token of the provider") from error
    if header.get("alg") not in ALGORITHMS:
        raise Unauthorized("the token is signed in a way that is not taken here")
    if "crit" in header:
        raise Unauthorized("the token asks for something that is not known here")
    return header


def fitting(header: Mapping[str, Any], keys: Iterable[Key]) -> list[Key]:
    """The keys that a token may be signed with; without a key's name in it, all of its kind."""
    name = header.get("kid")
    return [key for key in keys if header["alg"] in key.algorithms and name in (None, key.key_id)]


def claims_of(
    token: str, keys: Sequence[Key], *, issuer: str, audience: str | None, required: Iterable[str] = ("exp", "iat")
) -> dict[str, Any]:
    """What a token says, once signature, issuer, audience (None: any), exp, nbf and iat hold. Raises Unauthorized."""
    header = header_of(token)
    options: Options = {"require": [*required, "iss"], "verify_aud": audience is not None}
    if audience is not None:
        options["require"].append("aud")
    reason: Exception | None = None
    for each in fitting(header, keys):
        try:
            return jwt.decode(
                *(token, each.key.key, [header["alg"]], options),
                audience=audience,
                issuer=issuer,
                leeway=_LEEWAY_S,
            )
        except jwt.InvalidSignatureError as error:
            reason = error  # another key of the same name may be the one
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Unauthorized(f"the token does not hold: {_said(error)}") from error
    if reason is None:
        raise Unauthorized("the token is signed with a key that the provider does not have")
    raise Unauthorized(f"the token does not hold: {_said(reason)}") from reason


def check_id_token(claims: Mapping[str, Any], *, client_id: str, nonce: str) -> None:
    """What OpenID Connect Core 3.1.3.7 asks beyond ``claims_of``. Raises Unauthorized."""
    audience = claims["aud"]
    party = claims.get("azp")
    if party != client_id and (party is not None or (isinstance(audience, list) and len(audience) > 1)):
        raise Unauthorized("the ID token is for another client")
    if claims.get("nonce") != nonce:
        raise Unauthorized("the ID token does not belong to this log-in")


def check_access_token(header: Mapping[str, Any], claims: Mapping[str, Any]) -> None:
    """That a token is there to call something with (RFC 9068, or a plain JWT as Keycloak's). Raises Unauthorized."""
    kind = header.get("typ") or ""
    told = str(claims.get("typ", "")).lower()
    if not isinstance(kind, str) or kind.lower() not in _TYPES or told in _FOREIGN_TYPES or _FOREIGN & claims.keys():
        raise Unauthorized("this is no access token")


@dataclass(frozen=True, slots=True)
class Naming:
    """How claims say who somebody is. values: those of ``role_claim`` that make a role; "*": everybody."""

    account_claim: str
    role_claim: str
    values: Mapping[Role, frozenset[str]]

    def role(self, claims: Mapping[str, Any]) -> Role | None:
        """The highest; None when they give none."""
        said = _words(at(claims, self.role_claim)) | {"*"}
        return max((role for role, values in self.values.items() if values & said), default=None)

    def name(self, claims: Mapping[str, Any]) -> str:
        """Raises Unauthorized when nothing names somebody."""
        for found in (at(claims, self.account_claim), claims.get("sub"), claims.get("client_id")):
            if isinstance(found, str) and (name := "".join(c for c in found if c.isprintable()).strip()):
                return name[:64]
        raise Unauthorized("the token names nobody")

    def principal(self, claims: Mapping[str, Any]) -> Principal | None:
        """None for somebody without a role."""
        role = self.role(claims)
        return None if role is None else Principal(self.name(claims), role, via="oidc")


def at(claims: Mapping[str, Any], path: str) -> object:
    """A claim of that name, which may have dots itself, or what lies deeper at a path with dots."""
    if path in claims:
        return claims[path]
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        inner = claims.get(".".join(parts[:count]))
        if isinstance(inner, dict):
            return at(inner, ".".join(parts[count:]))
    return None


def _words(found: object) -> set[str]:
    if isinstance(found, str):
        return {found, *found.split()}
    return {each for each in found if isinstance(each, str)} if isinstance(found, list) else set()


def _algorithms(key: Mapping[str, Any]) -> frozenset[str]:
    kind, named = key.get("kty"), key.get("alg")
    if kind == "RSA":
        possible = frozenset(_RSA)
    elif kind == "EC":
        possible = frozenset({_CURVES[key["crv"]]}) if key.get("crv") in _CURVES else frozenset()
    elif kind == "OKP" and key.get("crv") in ("Ed25519", "Ed448"):
        possible = frozenset({"EdDSA"})
    else:  # oct: a secret that is told everybody
        return frozenset()
    return possible if named is None else possible & {named}


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
