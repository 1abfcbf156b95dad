"""Whom identities are checked against: a file of user names with hashed passcodes, and signed tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pacs.dimse.user import Identity, IdentityType
from pacs.errors import Invalid

log = logging.getLogger(__name__)

NO_PASSCODE = "*"  # in place of a hash: the name alone is enough
_LOG_N, _R, _P = 15, 8, 3  # 32 MiB and about a fifth of a second
_DIGEST_BYTES = 32
_PHC = re.compile(r"\$scrypt\$ln=(\d+),r=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
_NAME = re.compile(r"[^:\s\x00-\x1f][^:\x00-\x1f]{0,63}")
_MOST_MEMORY = 1 << 28


def hashed(passcode: str) -> str:
    """For the file: a salted scrypt hash (RFC 7914) in PHC string format."""
    salt = secrets.token_bytes(16)
    return _phc(salt, _scrypt(passcode.encode(), salt, _LOG_N, _R, _P, _DIGEST_BYTES))


def parse_users(text: str) -> dict[str, str]:
    """User names to hashes, of lines ``name:hash``; "#" begins a comment. Raises ValueError naming the line."""
    users: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, value = line.strip().partition(":")
        if not colon or not _NAME.fullmatch(name):
            raise ValueError(f"line {number} is not name:hash")
        if value != NO_PASSCODE and _parameters(value) is None:
            raise ValueError(f"line {number}: the hash of {name} is not one of scrypt; make it with: pacs user {name}")
        users[name] = value
    return users


class Users:
    """The file's users, read again when it changes. Safe to call from any thread.

    When a change cannot be understood, that is told in the log, and the users from before go on. Raises Invalid when
    the file cannot be used now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._hashing = threading.Lock()  # one at a time: each takes its memory, and nobody has proved anything yet
        self._seen: tuple[int, int, int] | None = None
        self._users: Mapping[str, str] = {}
        self._decoy = _phc(secrets.token_bytes(16), secrets.token_bytes(_DIGEST_BYTES))
        try:
            self._read()
        except (OSError, ValueError) as error:
            raise Invalid(f"{path}: {getattr(error, 'strerror', None) or error}", "DIMSE_USERS") from error

    def check(self, identity: Identity) -> str | None:
        """The user's name, or None when it is not that user."""
        name = identity.primary.decode("utf-8", "replace")
        value = self._current().get(name)
        if value == NO_PASSCODE:
            return name if identity.kind == IdentityType.USERNAME else None
        if identity.kind != IdentityType.USERNAME_PASSCODE:
            return None
        with self._hashing:
            # Whether there is such a user must not show in the time that this takes.
            is_right = _verify(value or self._decoy, identity.secondary)
        return name if value is not None and is_right else None

    def _current(self) -> Mapping[str, str]:
        with self._lock:
            try:
                self._read()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                log.error("users not renewed, those from before go on file=%s reason=%s", self._path.name, reason)
            return self._users

    def _read(self) -> None:
        stat = self._path.stat()
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen != self._seen:
            self._users = parse_users(self._path.read_text("utf-8"))
            self._seen = seen
            log.info("users read file=%s users=%d", self._path.name, len(self._users))


@dataclass(frozen=True, slots=True)
class Tokens:
    """JSON Web Tokens signed by whoever holds the key to ``public_key`` (a PEM file), for ``audience`` if not "".

    A token has to say when it expires; the user is its ``preferred_username`` or ``sub``. The key is read for each
    token, so that a new one holds at once.
    """

    public_key: Path
    audience: str = ""

    def __post_init__(self) -> None:
        """Raises Invalid when the key, or the library for it, is not there."""
        try:
            import jwt  # noqa: F401  # here, not above: few need it
        except ImportError as error:
            raise Invalid(
                "DIMSE_JWT_KEY is set, and PyJWT is not installed: pip install 'raccoon-pacs[jwt]'", "DIMSE_JWT_KEY"
            ) from error
        try:
            self._key()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a public key in PEM format"
            raise Invalid(f"{self.public_key}: {reason}", "DIMSE_JWT_KEY") from error

    def check(self, identity: Identity) -> str | None:
        """The user's name, or None when the token does not hold."""
        import jwt

        try:
            claims = jwt.decode(
                identity.primary,
                self._key(),
                algorithms=_ALGORITHMS,
                audience=self.audience or None,
                options={"require": ["exp"], "verify_aud": bool(self.audience)},
            )
        except (jwt.PyJWTError, OSError, ValueError) as error:
            log.warning("token refused reason=%s", error)
            return None
        return str(claims.get("preferred_username") or claims.get("sub") or "") or None

    def _key(self) -> bytes:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        data = self.public_key.read_bytes()
        load_pem_public_key(data)
        return data


# Of public keys only: with a shared secret among them, the public key itself could be taken for one.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


def _phc(salt: bytes, digest: bytes) -> str:
    return f"$scrypt$ln={_LOG_N},r={_R},p={_P}${_unpadded(salt)}${_unpadded(digest)}"


def _verify(value: str, passcode: bytes) -> bool:
    parameters = _parameters(value)
    assert parameters is not None
    log_n, r, p, salt, digest = parameters
    return hmac.compare_digest(_scrypt(passcode, salt, log_n, r, p, len(digest)), digest)


def _parameters(value: str) -> tuple[int, int, int, bytes, bytes] | None:
    matched = _PHC.fullmatch(value)
    if matched is None:
        return None
    log_n, r, p = (int(matched[number]) for number in (1, 2, 3))
    if not (1 <= log_n <= 20 and 1 <= r <= 32 and 1 <= p <= 16 and 128 * r << log_n <= _MOST_MEMORY):
        return None
    return log_n, r, p, _padded(matched[4]), _padded(matched[5])


def _scrypt(passcode: bytes, salt: bytes, log_n: int, r: int, p: int, size: int) -> bytes:
    return hashlib.scrypt(passcode, salt=salt, n=1 << log_n, r=r, p=p, maxmem=2 * _MOST_MEMORY, dklen=size)


def _padded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii").rstrip("=")
