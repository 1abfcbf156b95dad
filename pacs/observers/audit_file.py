"""The audit file: one XML document a line, appended by all processes; and reading it back, the youngest first."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pacs.errors import Invalid
from pacs.log_file import SharedFile, lines_backwards

_LOOKED_AT = 500_000  # lines of one reading, at most


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages: those that meet all that is not "". since, until: as ISO 8601 in UTC begins, 2026-01-31T12."""

    event: str = ""
    user: str = ""
    study_uid: str = ""
    patient_id: str = ""
    since: str = ""
    until: str = ""
    text: str = ""


class AuditFile:
    """is_synced: messages are on the disk when ``write`` returns. Raises Invalid when it cannot be opened."""

    def __init__(self, path: Path, max_bytes: int, keep: int, *, is_synced: bool) -> None:
        self.path = path
        self._is_synced = is_synced
        try:
            self._file = SharedFile(path, max_bytes, keep, mode=0o600)
        except OSError as error:
            raise Invalid(f"AUDIT_FILE={path} cannot be written: {error.strerror}", "AUDIT_FILE") from error

    def write(self, messages: Sequence[bytes]) -> None:
        """Raises OSError."""
        self._file.write(b"".join(b"%b\n" % message for message in messages))
        if self._is_synced:
            self._file.sync()

    def close(self) -> None:
        self._file.close()


def read(path: Path, wanted: Wanted, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """The youngest messages that are wanted, and whether all were looked at."""
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines_backwards(path)):
        if len(found) >= limit or number >= _LOOKED_AT:
            return found, False
        # Cheaper than reading the XML of each.
        if not all(part.encode() in line for part in (wanted.study_uid, wanted.text)):
            continue
        try:
            entry = _entry(line)
        except (ElementTree.ParseError, KeyError, ValueError):  # cut by a crash
            continue
        if _is_wanted(entry, wanted):
            found.append(entry)
    return found, True


def _is_wanted(entry: dict[str, Any], wanted: Wanted) -> bool:
    at = entry["at"]
    return (
        (not wanted.event or wanted.event in (entry["code"], entry["event"]))
        and (not wanted.user or any(who["user"] == wanted.user for who in entry["participants"]))
        and (not wanted.study_uid or wanted.study_uid in entry["studies"])
        and (not wanted.patient_id or wanted.patient_id in entry["patients"])
        and (not wanted.since or at >= wanted.since)
        and (not wanted.until or at <= wanted.until)
    )


def _entry(line: bytes) -> dict[str, Any]:
    root = ElementTree.fromstring(line)
    event = root.find("EventIdentification")
    if event is None:
        raise ValueError("no event")
    code, kind = event.find("EventID"), event.find("EventTypeCode")
    outcome = event.find("EventOutcomeDescription")
    assert code is not None
    objects = {
        number: [found.attrib["ParticipantObjectID"] for found in root.iter("ParticipantObjectIdentification")
                 if _type(found) == number]
        for number in ("110180", "2")
    }  # fmt: skip
    return {
        "at": event.attrib["EventDateTime"],
        "code": code.attrib["csd-code"],
        "event": code.attrib["originalText"],
        "type": "" if kind is None else kind.attrib["originalText"],
        "action": event.attrib.get("EventActionCode", ""),
        "isFailure": event.attrib["EventOutcomeIndicator"] != "0",
        "outcome": "" if outcome is None else outcome.text or "",
        "participants": [
            {
                "user": one.attrib["UserID"],
                "address": one.attrib.get("NetworkAccessPointID", ""),
                "isRequestor": one.attrib["UserIsRequestor"] == "true",
            }
            for one in root.iter("ActiveParticipant")
        ],
        "studies": objects["110180"],
        "patients": objects["2"],
        "instances": sum(int(one.attrib["NumberOfInstances"]) for one in root.iter("SOPClass")),
        "details": dict(_details(root)),
    }


def _type(found: ElementTree.Element) -> str:
    kind = found.find("ParticipantObjectIDTypeCode")
    return "" if kind is None else kind.attrib["csd-code"]


def _details(root: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for detail in root.iter("ParticipantObjectDetail"):
        yield detail.attrib["type"], b64decode(detail.attrib["value"]).decode("utf-8", "replace")
    for query in root.iter("ParticipantObjectQuery"):
        yield "Query", b64decode(query.text or "").decode("utf-8", "replace")
