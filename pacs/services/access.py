"""Who somebody is to this archive, however that was found out."""

from __future__ import annotations

from dataclasses import dataclass

from pacs.dicom.model import EVERYTHING, Role, Scope


@dataclass(frozen=True, slots=True)
class Principal:
    """name: of the account, token or share; "anonymous" for nobody. via: how that was found out.

    One of anonymous, password, token, session, oidc or share.
    """

    name: str
    role: Role
    scope: Scope = EVERYTHING
    via: str = "anonymous"
