"""What studies are listed by: the words that a text looks for, and the keys that they are ordered by.

Made from normal forms of a study's and its patient's attributes, so that all engines find and order alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pacs.dicom.model import Level
from pacs.dicom.person_name import fold
from pacs.errors import Invalid
from pacs.index.base import Order

STUDY_DATE, STUDY_TIME, MODALITIES = "00080020", "00080030", "00080061"
PATIENT_NAME, PATIENT_ID = "00100010", "00100020"
ACCESSION_NUMBER, STUDY_DESCRIPTION = "00080050", "00081030"
INSTANCES, SERIES_NUMBER = "00201208", "00200011"
RECEIVED = ""  # in the order of first storage
# Attributes with keys of their own, and what the engines call those.
KEYS = {
    STUDY_DATE: "date",
    PATIENT_NAME: "name",
    PATIENT_ID: "patient",
    ACCESSION_NUMBER: "accession",
    STUDY_DESCRIPTION: "description",
    MODALITIES: "modalities",
}
# What a listing is made from.
SOURCES = (*KEYS, STUDY_TIME)
# The kind of record that holds a study's labels: a JSON list, under the study's UID.
LABELS = "labels"
_ORDERS = {Level.STUDY: {RECEIVED, INSTANCES, *KEYS}, Level.SERIES: {RECEIVED, SERIES_NUMBER}}
# Parts of names, and words of a text, are apart from each other by these.
_GAPS = re.compile(r"[\s^=\\]+")
_LETTERS = re.compile(r"[^\W_]+")
# More characters tell hardly more apart, and an index holds each word.
_LONGEST = 64


@dataclass(frozen=True, slots=True)
class Listing:
    """words: in alphabetical order, of letters and digits alone. keys: by the names of ``KEYS``; None without value."""

    words: tuple[str, ...]
    keys: Mapping[str, str | None]


def listing(values: Mapping[str, Sequence[Any]], labels: Iterable[str]) -> Listing:
    """values: normal forms of each of ``SOURCES``; of names their component groups, those that are empty left out."""
    keys = {name: _first(values.get(tag)) for tag, name in KEYS.items()}
    date, time = values.get(STUDY_DATE), values.get(STUDY_TIME)
    if date:
        keys["date"] = f"{date[0]:08d}{time[0]:012d}" if time else f"{date[0]:08d}"
    keys["modalities"] = "\\".join(values.get(MODALITIES, ())) or None
    texts = [str(text) for tag in KEYS if tag != STUDY_DATE for text in values.get(tag, ())]
    # Taken together: one text is sooner gone through than several.
    found = set(_words(" ".join((*texts, *labels))))
    found.update(f"{one:08d}" for one in date or ())
    return Listing(tuple(sorted(found)), keys)


def begins(text: str) -> list[str]:
    """What words have to begin with for a text to be found, each once, the longest first."""
    found = {"".join(_LETTERS.findall(one))[:_LONGEST] for one in _GAPS.split(_plain(text))}
    return sorted(found - {""}, key=lambda one: (-len(one), one))


def check_order(level: Level, order: Order | None) -> None:
    """Raises Invalid for what a level is not ordered by."""
    if order is not None and order.tag not in _ORDERS.get(level, {RECEIVED}):
        raise Invalid(f"{order.tag} is nothing that this level can be ordered by", "orderby")


def _words(text: str) -> Iterable[str]:
    """Each stretch of letters and digits, and those that only punctuation parts taken together: dates, numbers."""
    for piece in _GAPS.split(_plain(text)):
        parts = _LETTERS.findall(piece)
        yield from (part[:_LONGEST] for part in parts)
        if len(parts) > 1:
            yield "".join(parts)[:_LONGEST]


def _plain(text: str) -> str:
    return fold(text.replace("\0", ""))


def _first(values: Sequence[Any] | None) -> str | None:
    return str(values[0]) if values else None
