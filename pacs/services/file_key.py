"""Where a stored file lies: the pattern of DICOM_STORE_FILEPATH, filled in for one instance.

{now,date,yyyy/MM}   when it was received, UTC; letters y M d H m s as in Java's date patterns
{0020000D}           the attribute's value, unsafe characters replaced
{0020000D,hash}      its Java string hash as eight hexadecimal digits
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from datetime import datetime

from pacs.dicom.model import Attributes, Header
from pacs.errors import Invalid

_FIELD = re.compile(r"\{([^{}]*)\}")
_UNSAFE = re.compile(r"[^0-9A-Za-z._-]")
_DATE_PART = re.compile(r"y+|M+|d+|H+|m+|s+|[/_.-]")
_STRFTIME = {"y": "%Y", "M": "%m", "d": "%d", "H": "%H", "m": "%M", "s": "%S"}
_MAX_PART = 120
EXTENSION = ".dcm"

_Part = Callable[[Header, datetime], str]


class FileKeyPattern:
    """A pattern, checked once. Raises Invalid that says what is wrong with it."""

    def __init__(self, pattern: str) -> None:
        self._parts: list[_Part] = []
        body = pattern.strip().removesuffix(EXTENSION).strip("/")
        if not body:
            raise Invalid("the file pattern is empty", "DICOM_STORE_FILEPATH")
        end = 0
        for match in _FIELD.finditer(body):
            self._add_literal(body[end : match.start()])
            self._parts.append(_field(match[1]))
            end = match.end()
        self._add_literal(body[end:])

    def key(self, header: Header, received_at: datetime) -> str:
        """A key that no file has: a random suffix, so that a replacement never touches bytes that a row points at."""
        path = "".join(part(header, received_at) for part in self._parts)
        return f"{path}-{secrets.token_hex(6)}{EXTENSION}"

    def _add_literal(self, text: str) -> None:
        if "{" in text or "}" in text:
            raise Invalid("the file pattern has a brace without its partner", "DICOM_STORE_FILEPATH")
        if any(part in (".", "..") for part in text.split("/")):
            raise Invalid("the file pattern must not lead out of the store", "DICOM_STORE_FILEPATH")
        if text:
            self._parts.append(lambda header, received_at: text)


def _field(text: str) -> _Part:
    name, *options = (word.strip() for word in text.split(",", 2))
    if name == "now" and len(options) == 2 and options[0] == "date":
        parts = _DATE_PART.findall(options[1])
        if "".join(parts) == options[1] and parts:
            form = "".join(_STRFTIME.get(part[0], part) for part in parts)
            return lambda header, received_at: received_at.strftime(form)
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        tag = name.upper()
        if not options:
            return lambda header, received_at: safe_name(_text(header.attributes, tag))
        if options == ["hash"]:
            return lambda header, received_at: f"{java_hash(_text(header.attributes, tag)) & 0xFFFFFFFF:08X}"
    raise Invalid(
        f"the file pattern has {{{text}}}: expected {{ggggeeee}}, {{ggggeeee,hash}} or {{now,date,yyyy/MM/dd}}",
        "DICOM_STORE_FILEPATH",
    )


def _text(attributes: Attributes, tag: str) -> str:
    values = attributes.get(tag, {}).get("Value") or [""]
    value = values[0]
    if isinstance(value, dict):
        value = value.get("Alphabetic", "")
    return "" if value is None else str(value)


def safe_name(text: str) -> str:
    """One path part that any filesystem takes; different texts give different names."""
    name = _UNSAFE.sub("_", text).lstrip(".")[:_MAX_PART]
    if name == text and name:
        return name
    return f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def java_hash(text: str) -> int:
    """Java's ``String.hashCode``: h·31 + c over UTF-16 units, as a signed 32-bit number."""
    units = text.encode("utf-16-be")
    value = 0
    for i in range(0, len(units), 2):
        value = (value * 31 + (units[i] << 8 | units[i + 1])) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value
