"""Files of rules in TOML, one ``[[rule]]`` each: what those for forwarding and for retention have in common."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pacs.dicom import keys as query_keys
from pacs.dicom.matching import Matcher, TagPath
from pacs.errors import Invalid


class Named(Protocol):
    @property
    def name(self) -> str: ...


Made = TypeVar("Made", bound=Named)


def read(path: Path, setting: str, others: Collection[str] = ()) -> dict[str, Any]:
    """What a file says. setting: that names it. others: what may be in it beside rules. Raises Invalid."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}", setting) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not TOML: {error}", setting) from error
    unknown = ", ".join(sorted(set(content) - {"rule", *others}))
    if unknown or not isinstance(content.get("rule", []), list):
        known = "known are " + " and ".join([*others, "rules, written as [[rule]]"])
        raise Invalid(f"{path}: there is {unknown or 'rule'}; {known}", setting)
    return content


def rules(
    content: Mapping[str, Any],
    path: Path,
    setting: str,
    known: Collection[str],
    make: Callable[[str, dict[str, Any]], Made],
) -> list[Made]:
    """Each rule of ``read``, made of its name and table. known: what a table may say.

    Raises Invalid, which says in which rule what is wrong.
    """
    found: list[Made] = []
    for number, table in enumerate(content.get("rule", []), 1):
        name = table.get("name") if isinstance(table, dict) else None
        where = f"{path}, rule {number}" + (f" ({name})" if isinstance(name, str) else "")
        try:
            found.append(make(_name(table, number, known), table))
        except Invalid as error:
            raise Invalid(f"{where}: {error}", setting) from error
        if found[-1].name in {rule.name for rule in found[:-1]}:
            raise Invalid(f"{where}: there are two rules of this name", setting)
    return found


def _name(table: Any, number: int, known: Collection[str]) -> str:
    if not isinstance(table, dict):
        raise Invalid("a rule is a table: [[rule]]")
    unknown = set(table) - set(known)
    if unknown:
        raise Invalid(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    name = table.get("name", f"rule {number}")
    if not isinstance(name, str) or not name.strip():
        raise Invalid("name is not a text")
    return name.strip()


def match_keys(match: Any) -> Mapping[TagPath, Matcher]:
    """The keys of a ``match`` table. Raises Invalid."""
    if not isinstance(match, dict):
        raise Invalid('match is a table, such as { Modality = "CT" }')
    return query_keys.combine(dict(_key(keyword, value) for keyword, value in match.items()))


def _key(keyword: str, value: Any) -> tuple[TagPath, Matcher]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str | int | float) and not isinstance(each, bool) for each in values):
        raise Invalid(f"match: {keyword} is neither a text, a number nor a list of them")
    return query_keys.from_parameter(keyword, [str(each) for each in values])


def texts(table: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A text, or a list of texts, of a table. Raises Invalid."""
    value = table.get(name, [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(each, str) and each.strip() for each in values):
        raise Invalid(f"{name} is neither a text nor a list of texts")
    return tuple(dict.fromkeys(each.strip() for each in values))
