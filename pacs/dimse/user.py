"""User Identity Negotiation (PS3.7 D.3.3.7): who a requestor says that it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class IdentityType(IntEnum):
    """PS3.7 Table D.3-14."""

    USERNAME = 1
    USERNAME_PASSCODE = 2
    KERBEROS = 3
    SAML = 4
    JWT = 5


@dataclass(frozen=True, slots=True)
class Identity:
    """kind: an ``IdentityType``, or what a peer made up. primary: user name, ticket, assertion or token.

    secondary: the passcode. wants_answer: a positive response was asked for.
    """

    kind: int
    primary: bytes = field(repr=False)
    secondary: bytes = field(default=b"", repr=False)
    wants_answer: bool = False
