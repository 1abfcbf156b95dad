"""Audit messages as XML (PS3.15 A.5.1), each of one event (A.5.3)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from xml.etree.ElementTree import Element, SubElement, tostring

from pacs.dicom.model import Caller
from pacs.services.accesses import Action

_STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_SUCCESS, _MINOR_FAILURE = "0", "4"
_WEB_SERVER = "3"
# Code and meaning, of CID 400 and the tables after it.
_EVENTS = {
    Action.STARTED: ("110100", "Application Activity", "E"),
    Action.STOPPED: ("110100", "Application Activity", "E"),
    Action.AUDIT_READ: ("110101", "Audit Log Used", "R"),
    Action.STORED: ("110104", "DICOM Instances Transferred", "C"),
    Action.SENT: ("110104", "DICOM Instances Transferred", "R"),
    Action.VIEWED: ("110103", "DICOM Instances Accessed", "R"),
    Action.DELETED: ("110105", "DICOM Study Deleted", "D"),
    Action.RESTORED: ("110103", "DICOM Instances Accessed", "C"),
    Action.QUERIED: ("110112", "Query", "E"),
    Action.ALERTED: ("110113", "Security Alert", "E"),
    Action.LOGGED_IN: ("110114", "User Authentication", "E"),
    Action.LOGGED_OUT: ("110114", "User Authentication", "E"),
}
_TYPES = {
    Action.STARTED: ("110120", "Application Start"),
    Action.STOPPED: ("110121", "Application Stop"),
    Action.LOGGED_IN: ("110122", "Login"),
    Action.LOGGED_OUT: ("110123", "Logout"),
    Action.ALERTED: ("110127", "Use of Restricted Function"),
}
_ACCESSED = ("110103", "DICOM Instances Accessed", "D")  # of what was deleted when it was less than the study
_APPLICATION, _DESTINATION, _SOURCE = (
    ("110150", "Application"),
    ("110152", "Destination Role ID"),
    ("110153", "Source Role ID"),
)


@dataclass
class Gathered:
    """What one caller did with one study within one window.

    classes: how many instances of each SOP class, "" for an unknown one. ids: correlation ids.
    """

    action: Action
    caller: Caller
    began: datetime
    study_uid: str = ""
    patient_id: str = ""
    is_failure: bool = False
    peer: str = ""
    part: str = ""
    detail: str = ""
    count: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Source:
    """This archive. name: AuditSourceID. ae_title, process, host: of who takes part in what it does."""

    name: str
    ae_title: str
    process: int
    host: str


def message(event: Gathered, source: Source) -> bytes:
    """One XML document, UTF-8, on one line."""
    root = Element("AuditMessage")
    _identify(root, event)
    _participants(root, event, source)
    by = SubElement(root, "AuditSourceIdentification", AuditSourceID=_token(source.name))
    SubElement(by, "AuditSourceTypeCode", {"csd-code": _WEB_SERVER})
    _objects(root, event)
    xml: bytes = tostring(root, "utf-8", xml_declaration=False)
    return xml.replace(b"\n", b"&#10;")


def _identify(root: Element, event: Gathered) -> None:
    code, meaning, action = _EVENTS[event.action]
    if event.action is Action.DELETED and event.part:
        code, meaning, action = _ACCESSED
    identification = SubElement(
        root,
        "EventIdentification",
        EventActionCode=action,
        EventDateTime=event.began.isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=_MINOR_FAILURE if event.is_failure else _SUCCESS,
    )
    _code(identification, "EventID", code, meaning)
    if event.action in _TYPES:
        _code(identification, "EventTypeCode", *_TYPES[event.action])
    if event.is_failure and event.detail:
        SubElement(identification, "EventOutcomeDescription").text = _printable(event.detail)


def _participants(root: Element, event: Gathered, source: Source) -> None:
    """Source and destination, where there are two; who asked for it is the requestor."""
    us: Mapping[str, str] = {
        "UserID": source.ae_title,
        "AlternativeUserID": str(source.process),
        **_network(source.host),
    }
    them = {"UserID": _printable(event.caller.name) or "anonymous", **_network(_host(event.caller.address))}
    match event.action:
        case Action.STARTED | Action.STOPPED:
            _participant(root, us, is_requestor=False, role=_APPLICATION)
        case Action.STORED | Action.QUERIED:
            _participant(root, them, is_requestor=True, role=_SOURCE)
            _participant(root, us, is_requestor=False, role=_DESTINATION)
        case Action.SENT if event.peer:
            _participant(root, us, is_requestor=False, role=_SOURCE)
            _participant(root, {"UserID": _printable(event.peer)}, is_requestor=False, role=_DESTINATION)
            _participant(root, them, is_requestor=True)
        case Action.SENT:
            _participant(root, us, is_requestor=False, role=_SOURCE)
            _participant(root, them, is_requestor=True, role=_DESTINATION)
        case _:
            _participant(root, them, is_requestor=True)
            _participant(root, us, is_requestor=False, role=_APPLICATION)


def _objects(root: Element, event: Gathered) -> None:
    if event.action is Action.QUERIED:
        query = _object(root, _STUDY_ROOT_FIND, "2", "3", ("110181", "SOP Class UID"))
        SubElement(query, "ParticipantObjectQuery").text = b64encode(event.detail.encode()).decode()
        _details(query, event)
    elif event.action is Action.AUDIT_READ:
        log = _object(root, "audit", "2", "13", ("12", "URI"), system="RFC-3881")
        SubElement(log, "ParticipantObjectName").text = "Security Audit Log"
        _details(log, event)
    elif event.action is Action.ALERTED:
        what = _object(root, _token(event.part) or "association", "2", "13", ("12", "URI"), system="RFC-3881")
        SubElement(what, "ParticipantObjectName").text = "resource"
        _details(what, event, {"Alert Description": event.detail})
    elif event.study_uid:
        study = _object(root, _token(event.study_uid), "2", "3", ("110180", "Study Instance UID"))
        SubElement(study, "ParticipantObjectName").text = "study"
        _details(study, event, {"Part": event.part} if event.part else {})
        description = SubElement(study, "ParticipantObjectDescription")
        for uid, number in sorted(event.classes.items()):
            attributes = {"UID": _token(uid)} if uid else {}
            SubElement(description, "SOPClass", {**attributes, "NumberOfInstances": str(number)})
        patient = _object(root, _token(event.patient_id) or "unknown", "1", "1", ("2", "Patient Number"), "RFC-3881")
        SubElement(patient, "ParticipantObjectName").text = "patient"


def _details(parent: Element, event: Gathered, more: Mapping[str, str] | None = None) -> None:
    details = {"Count": str(event.count), **(more or {}), **({"ID": ",".join(sorted(event.ids))} if event.ids else {})}
    for name, value in details.items():
        encoded = b64encode(value.encode("utf-8", "backslashreplace")).decode()
        SubElement(parent, "ParticipantObjectDetail", type=name, value=encoded)


def _object(root: Element, identity: str, kind: str, role: str, code: tuple[str, str], system: str = "DCM") -> Element:
    found = SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=identity,
        ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )
    _code(found, "ParticipantObjectIDTypeCode", *code, system=system)
    return found


def _participant(
    root: Element, attributes: Mapping[str, str], *, is_requestor: bool, role: tuple[str, str] | None = None
) -> None:
    said = SubElement(root, "ActiveParticipant", {**attributes, "UserIsRequestor": str(is_requestor).lower()})
    if role is not None:
        _code(said, "RoleIDCode", *role)


def _code(parent: Element, name: str, code: str, meaning: str, system: str = "DCM") -> None:
    SubElement(parent, name, {"csd-code": code, "codeSystemName": system, "originalText": meaning})


def _network(host: str) -> dict[str, str]:
    if not host:
        return {}
    try:
        ip_address(host)
    except ValueError:
        return {"NetworkAccessPointID": _token(host), "NetworkAccessPointTypeCode": "1"}
    return {"NetworkAccessPointID": host, "NetworkAccessPointTypeCode": "2"}


def _host(address: str) -> str:
    """Without the port that a DIMSE caller's address ends with."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.rpartition(":")[0] if address.count(":") == 1 else address


def _token(text: str) -> str:
    return " ".join(_printable(text).split())


def _printable(text: str) -> str:
    """What XML can hold: peers may have put anything into names."""
    return "".join(char if char.isprintable() else "?" for char in text)
