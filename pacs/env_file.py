"""``.env`` as the node package dotenv reads it, which raccoon's files are written for.

``NAME=value``, optionally after ``export``; comments from ``#``; values bare or between single quotes, double quotes or
backticks, and quoted ones may run over several lines. Inside double quotes ``\\n``, ``\\r`` and ``\\"`` are escapes.
Nothing is expanded: ``$HOME`` stays as it is. python-dotenv does not know backticks.
"""

from __future__ import annotations

import re

_LINE = re.compile(
    r"""
    ^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][\w.-]*)[ \t]*=[ \t]*
    (?:
        '(?P<single>(?:\\'|[^'])*)'
      | "(?P<double>(?:\\.|[^"\\])*)"
      | `(?P<backtick>(?:\\`|[^`])*)`
      | (?P<bare>[^\#\r\n'"`][^\#\r\n]*)?
    )
    [ \t]*(?:\#[^\r\n]*)?(?:\r?\n|\r|\Z)
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_IGNORED = re.compile(r"[ \t]*(?:\#[^\r\n]*)?(?:\r?\n|\r|\Z)")
_ESCAPES = {"n": "\n", "r": "\r", '"': '"', "\\": "\\"}


def parse(text: str) -> dict[str, str]:
    """Names to values, the last of several winning. Raises ValueError naming the first line that cannot be read."""
    values: dict[str, str] = {}
    text = text.removeprefix("\ufeff")
    position = 0
    while position < len(text):
        ignored = _IGNORED.match(text, position)
        if ignored and ignored.end() > position:
            position = ignored.end()
            continue
        line = _LINE.match(text, position)
        if line is None:
            number = text.count("\n", 0, position) + 1
            raise ValueError(f"line {number} is neither NAME=value nor a comment, or a quote is not closed")
        values[line["name"]] = _value(line)
        position = line.end()
    return values


def _value(line: re.Match[str]) -> str:
    if line["double"] is not None:
        return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), line["double"], flags=re.DOTALL)
    if line["single"] is not None:
        return line["single"]
    if line["backtick"] is not None:
        return line["backtick"]
    return (line["bare"] or "").strip()
