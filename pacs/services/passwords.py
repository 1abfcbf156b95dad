"""Passwords as argon2id hashes (RFC 9106), one at a time: each takes 64 MiB, and nobody has proved anything yet."""

from __future__ import annotations

import threading
import unicodedata
from typing import TYPE_CHECKING

from pacs.errors import Invalid

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MIN_LENGTH, MAX_BYTES = 8, 1024


class Passwords:
    """Safe to call from any thread; every call may wait for others, and takes part of a second."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._hasher: PasswordHasher | None = None
        self._decoy = ""

    def hashed(self, password: str) -> str:
        """In PHC string format. Raises Invalid for what is no password."""
        check(password)
        with self._turn:
            return self._made().hash(_plain(password))

    def is_right(self, password: str, value: str | None) -> bool:
        """value: the hash; None: of somebody who is not there, which takes the same time and is False."""
        from argon2.exceptions import InvalidHashError, VerificationError

        with self._turn:
            hasher = self._made()
            if value is None and not self._decoy:
                self._decoy = hasher.hash("nobody")
            try:
                hasher.verify(value or self._decoy, _plain(password))
            except (VerificationError, InvalidHashError):
                return False
        return value is not None

    def _made(self) -> PasswordHasher:
        # Here, not above: a server without accounts never needs it.
        from argon2 import PasswordHasher

        if self._hasher is None:
            self._hasher = PasswordHasher()
        return self._hasher


def check(password: str) -> None:
    """Raises Invalid for what is no password."""
    if len(password) < MIN_LENGTH or len(password.encode("utf-8", "replace")) > MAX_BYTES:
        raise Invalid(f"a password has {MIN_LENGTH} characters or more, and at most {MAX_BYTES} bytes", "password")


def _plain(password: str) -> bytes:
    """The same bytes however the keyboard composes a character (RFC 8265 4.2)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "replace")[: MAX_BYTES * 2]
