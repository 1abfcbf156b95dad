"""Who somebody is to this archive, however that was found out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pacs.dicom.model import EVERYTHING, Role, Scope
from pacs.errors import Invalid

ROLES = {role.word: role for role in Role}
_MOST = 200  # modalities or labels of a scope


@dataclass(frozen=True, slots=True)
class Principal:
    """name: of the account, token ("owner/token") or share; "anonymous" for nobody. via: how that was found out.

    One of anonymous, password, token, session (of a password), oidc or share. may_download: whole files, as ZIP too.
    """

    name: str
    role: Role
    scope: Scope = EVERYTHING
    via: str = "anonymous"
    may_download: bool = True


def role_of(word: object) -> Role:
    """Raises Invalid."""
    if not isinstance(word, str) or word not in ROLES:
        raise Invalid(f"role is one of {', '.join(ROLES)}", "role")
    return ROLES[word]


def narrowed(scope: Scope, by: Scope) -> Scope:
    """What lies in both."""
    return Scope(
        _both(scope.modalities, by.modalities), _both(scope.labels, by.labels), _both(scope.studies, by.studies)
    )


def scope_as_json(scope: Scope) -> dict[str, list[str] | None]:
    """modalities and labels, None for no limit; studies where there is one."""
    kinds = {"modalities": scope.modalities, "labels": scope.labels, "studies": scope.studies}
    found = {name: None if values is None else sorted(values) for name, values in kinds.items()}
    if scope.studies is None:
        del found["studies"]
    return found


def scope_of(found: Mapping[str, Any]) -> Scope:
    """Of ``modalities``, ``labels`` and ``studies`` of a JSON object, each absent, null, or a list. Raises Invalid."""
    return Scope(*(_words(found.get(name), name) for name in ("modalities", "labels", "studies")))


def _words(values: object, name: str) -> frozenset[str] | None:
    if values is None:
        return None
    is_list = isinstance(values, list) and len(values) <= _MOST
    if not is_list or not all(isinstance(each, str) and 0 < len(each) <= 64 for each in values):  # type: ignore[attr-defined]
        raise Invalid(f"{name} is a list of words, at most {_MOST}, or null for no limit", name)
    return frozenset(values)  # type: ignore[call-overload, no-any-return]


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other
