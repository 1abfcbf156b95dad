"""User Identity Negotiation (PS3.7 D.3.3.7): who a requestor says that it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from pacs.services.access import Principal


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """is_refused: no association for this identity. user: who it is, None for nobody. is_answered: say so, as asked."""

    is_refused: bool = False
    user: Principal | None = None
    is_answered: bool = False


@dataclass(frozen=True, slots=True)
class Identities:
    """How identities are verified. checks: by ``IdentityType``, the user, or None when it is not that user.

    is_required: no association without a user. What no check is there for (Kerberos, SAML; all when nothing is
    configured) counts as no identity: the association is accepted without a positive response, and the requestor, who
    then knows that it was not verified, decides whether to go on (PS3.7 D.3.3.7).
    """

    checks: Mapping[int, Callable[[Identity], Principal | None]] = field(default_factory=dict)
    is_required: bool = False

    def decide(self, identity: Identity | None) -> Verdict:
        """May take part of a second."""
        check = self.checks.get(identity.kind) if identity else None
        if identity is None or check is None:
            return Verdict(is_refused=self.is_required)
        user = check(identity)
        if user is None:
            return Verdict(is_refused=True)
        return Verdict(user=user, is_answered=identity.wants_answer)
