"""Forwarding rules: which instances and studies go where, as data (``config/rules.toml``).

    [[rule]]
    name = "chest CTs to the reading room"
    on = "instance"                     # or "study": once it has been quiet, or is complete
    match = { Modality = "CT", StudyDescription = "*thorax*" }
    from = ["CT*"]                      # calling AE titles, users or commands
    send = ["READING"]                  # peers, by C-STORE
    commit = true                       # and they are asked for storage commitment of it
    stow = ["https://research.example/dicom-web"]
    webhook = ["https://ris.example/arrived"]
    label = ["research"]
    delete = "after sending"            # or an age, such as "30d"

``match`` takes what QIDO-RS takes: keywords, tags, paths into sequences; wildcards, ranges, lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pacs.dicom.matching import Matcher, TagPath, matches_all
from pacs.dicom.model import Attributes, Caller
from pacs.errors import Invalid
from pacs.services import labels, rule_file
from pacs.services.rule_file import match_keys, texts

_AGE = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AFTER_SENDING = "after sending"
_KEYS = {"name", "on", "match", "from", "send", "stow", "webhook", "label", "delete", "commit"}


class Moment(Enum):
    """What a rule waits for."""

    INSTANCE = "instance"
    STUDY = "study"


@dataclass(frozen=True, slots=True)
class Rule:
    """keys: what one instance has to match. callers: patterns of ``Caller.name``, none for all.

    commit: the peers are asked for storage commitment. delete_after_sending: once everything that this rule sends has
    arrived, and been committed where that is asked for. delete_after: so long after the moment.
    """

    name: str
    moment: Moment
    keys: Mapping[TagPath, Matcher]
    callers: tuple[str, ...] = ()
    send: tuple[str, ...] = ()
    stow: tuple[str, ...] = ()
    webhook: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    delete_after_sending: bool = False
    delete_after: timedelta | None = None
    commit: bool = False
    matched_by: Mapping[str, Any] = field(default_factory=dict)

    def concerns(self, attributes: Attributes, caller: Caller) -> bool:
        """Whether an instance from this caller meets the rule."""
        return self.is_from(caller) and matches_all(self.keys, attributes)

    def is_from(self, caller: Caller) -> bool:
        return not self.callers or any(_fits(caller.name, pattern) for pattern in self.callers)


def load(path: Path, peers: Callable[[str], bool] = lambda name: True) -> list[Rule]:
    """The rules of a file, in its order. peers: whether there is a peer of this AE title.

    Raises Invalid, which says in which rule what is wrong.
    """
    return rule_file.rules(
        rule_file.read(path, "RULES"), path, "RULES", _KEYS, lambda name, table: _rule(name, table, peers)
    )


def _rule(name: str, table: Mapping[str, Any], peers: Callable[[str], bool]) -> Rule:
    try:
        moment = Moment(table.get("on", "instance"))
    except ValueError:
        raise Invalid('on is neither "instance" nor "study"') from None
    match = table.get("match", {})
    keys = match_keys(match)
    rule = Rule(
        name,
        moment,
        keys,
        texts(table, "from"),
        texts(table, "send"),
        texts(table, "stow"),
        texts(table, "webhook"),
        texts(table, "label"),
        *_deletion(table),
        _is_committed(table),
        matched_by=match,
    )
    if rule.callers and rule.moment is Moment.STUDY:
        raise Invalid('from goes with on = "instance": a study may come from several')
    for peer in rule.send:
        if not peers(peer):
            raise Invalid(f"send: there is no peer {peer}; `pacs peers` lists them")
    for address in (*rule.stow, *rule.webhook):
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid(f"{address} is not an http or https address")
    for label in rule.label:
        labels.check(label)
    if rule.commit and not rule.send:
        raise Invalid("commit needs send")
    if rule.commit and rule.delete_after_sending and (len(rule.send) > 1 or rule.stow):
        raise Invalid(f'commit with delete = "{_AFTER_SENDING}" takes one peer in send, and no stow')
    if rule.delete_after_sending and not (rule.send or rule.stow):
        raise Invalid(f'delete = "{_AFTER_SENDING}" needs send or stow')
    if not (rule.send or rule.stow or rule.webhook or rule.label or rule.delete_after):
        raise Invalid("it does nothing: add send, stow, webhook, label or delete")
    return rule


def _deletion(table: Mapping[str, Any]) -> tuple[bool, timedelta | None]:
    value = table.get("delete")
    if value is None:
        return False, None
    if value == _AFTER_SENDING:
        return True, None
    matched = _AGE.fullmatch(value) if isinstance(value, str) else None
    if matched is None:
        raise Invalid(f'delete is neither "{_AFTER_SENDING}" nor an age such as "30d", "12h" or "2w"')
    return False, timedelta(**{_UNITS[matched[2]]: int(matched[1])})


def _is_committed(table: Mapping[str, Any]) -> bool:
    value = table.get("commit", False)
    if not isinstance(value, bool):
        raise Invalid("commit is true or false")
    return value


def _fits(name: str, pattern: str) -> bool:
    # GLOB's "[" would have a meaning; AE titles may hold one.
    return fnmatchcase(name.upper(), pattern.upper().replace("[", "[[]"))


def sentence(rule: Rule) -> str:
    """What the rule does, for people."""
    parts: Sequence[tuple[str, Sequence[str]]] = (
        ("send to", rule.send),
        ("STOW to", rule.stow),
        ("tell", rule.webhook),
        ("label", rule.label),
    )
    said = [f"{verb} {', '.join(values)}" for verb, values in parts if values]
    if rule.commit:
        said.append("have it committed")
    if rule.delete_after_sending:
        said.append("then delete")
    if rule.delete_after is not None:
        said.append(f"delete after {rule.delete_after}")
    return "; ".join(said)
