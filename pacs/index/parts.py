"""Parts of values, by which an index leads to what a pattern finds that begins with a wildcard.

From each character of a normal form on, its next few characters: what contains a text has a part that begins with it,
and the parts that begin with a text are neighbours in an index. One or two characters are led to in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pacs.dicom.criteria import Glob

# More characters tell hardly more apart, and take room.
LENGTH = 6
# Patient's Name, the one attribute that people ask for by what stands somewhere in it and that has as many different
# values as the archive has patients. (A dozen parts are a dozen entries of an index: not for what every study has.)
PARTED = "00100010"


def parts_of(values: Iterable[str]) -> list[str]:
    """All different parts of some values, sorted."""
    return sorted({value[at : at + LENGTH] for value in values for at in range(len(value))})


def begin_of(asked: Glob) -> str | None:
    """What some part of every match begins with; None when its prefix tells as much."""
    longest = max(re.split(r"[*?]", asked.pattern), key=len)
    return longest[:LENGTH] if len(longest) > len(asked.prefix) else None
