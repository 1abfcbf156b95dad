"""FHIR search parameters (http://hl7.org/fhir/R4/search.html) as keys of the index."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

from pacs.dicom import keys as query_keys
from pacs.dicom.matchers import Empty, Matcher, Range, Single, TagPath, UidList, ValueList, Wildcard
from pacs.dicom.model import Attributes
from pacs.errors import Invalid
from pacs.services import fhir_ids
from pacs.services.fhir_values import UID_SYSTEM, Namespaces, accession_identifier, patient_identifier

DEFAULT_COUNT, MAX_COUNT = 20, 200
_MAX_OFFSET = 1 << 62
# Parameters of any search that change nothing in what is found.
_CONTROLS = frozenset(
    {"_count", "_offset", "_format", "_pretty", "_summary", "_total", "_include", "accept", "charset"}
)
PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "ImagingStudy": {
        **{"_id": "token", "identifier": "token", "patient": "reference", "subject": "reference"},
        **{"patient.identifier": "token", "started": "date", "modality": "token", "series": "token"},
        **{"instance": "token", "dicom-class": "uri", "status": "token", "endpoint": "reference"},
    },
    "Patient": {
        **{"_id": "token", "identifier": "token", "name": "string", "family": "string", "given": "string"},
        **{"birthdate": "date", "gender": "token"},
    },
    "Endpoint": {"_id": "token", "identifier": "token", "status": "token"},
}
INCLUDES = ("ImagingStudy:patient", "ImagingStudy:subject", "ImagingStudy:endpoint")

_STUDY_UID, _ACCESSION = ("0020000D",), ("00080050",)
_MODALITIES, _BIRTH_DATE, _SEX = ("00080061",), ("00100030",), ("00100040",)
_GENDERS = {"male": "M", "female": "F", "other": "O"}
_UID = re.compile(r"\d+(\.\d+){3,}", re.ASCII)
_DATE = re.compile(
    r"(eq|ge|le|gt|lt|sa|eb|ap)?(\d{4})(?:-(\d\d)(?:-(\d\d)"
    r"(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6})\d*)?)?(Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)


@dataclass
class Search:
    """What one request asks. used: the parameters that meant something; unknown: names of those that did not.

    is_nothing: no resource can match. filters: what the index cannot tell, by the attributes of each row.
    """

    keys: dict[TagPath, Matcher] = field(default_factory=dict)
    filters: list[Callable[[Attributes], bool]] = field(default_factory=list)
    count: int = DEFAULT_COUNT
    offset: int = 0
    includes: set[str] = field(default_factory=set)
    used: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    is_nothing: bool = False

    def accepts(self, row: Attributes) -> bool:
        return all(accept(row) for accept in self.filters)

    def add(self, path: TagPath, matcher: Matcher) -> None:
        """A further condition; two on one attribute are met together only when they are the same."""
        self.is_nothing |= self.keys.get(path, matcher) != matcher
        self.keys[path] = matcher


def parse(
    kind: str,
    parameters: Sequence[tuple[str, str]],
    namespaces: Namespaces,
    *,
    zone: tzinfo | None = None,
    strict: bool = False,
) -> Search:
    """Parameters of a search for ImagingStudy, Patient or Endpoint.

    strict: ``Prefer: handling=strict``. Raises Invalid whose subject is the parameter: a value that cannot be one, a
    modifier, or an unknown name when strict.
    """
    search = Search()
    known = PARAMETERS[kind]
    spans: dict[str, list[_Span]] = {}
    for name, value in parameters:
        base, _, modifier = name.partition(":")
        base = "patient.identifier" if name.endswith(":Patient.identifier") or name == "subject.identifier" else base
        if base not in known and base not in _CONTROLS:
            if strict:
                raise Invalid(f"{name[:64]} is not a search parameter of {kind} here", name[:64])
            search.unknown.append(name)
            continue
        if modifier and modifier not in ("Patient", "Patient.identifier"):
            raise Invalid(f"The modifier :{modifier[:32]} is not supported", name)
        search.used.append((name, value))
        if base in _CONTROLS:
            _control(search, base, value)
        elif known[base] == "date":
            spans.setdefault(base, []).append(_span(value, name, zone))
        elif kind == "Patient":
            _patient(search, base, value, namespaces)
        elif kind == "ImagingStudy":
            _study(search, base, value, namespaces)
        else:
            _endpoint(search, base, value, namespaces)
    for name, found in spans.items():
        _dates(search, found, has_times=name == "started")
    search.keys = query_keys.combine(search.keys)
    return search


def _control(search: Search, name: str, value: str) -> None:
    if name in ("_count", "_offset"):
        if not re.fullmatch(r"\d{1,18}", value, re.ASCII):
            raise Invalid(f"{name} must be a whole number, at least 0", name)
        if name == "_count":
            search.count = min(int(value), MAX_COUNT)
        else:
            search.offset = min(int(value), _MAX_OFFSET)
    elif name == "_summary":
        if value not in ("count", "false"):
            raise Invalid("Of _summary only count and false are supported", name)
        if value == "count":
            search.count = 0
    elif name == "_include":
        if value not in (*INCLUDES, "*", "ImagingStudy:*"):
            raise Invalid(f"Of _include there is {', '.join(INCLUDES)}", name)
        search.includes |= {value} if not value.endswith("*") else set(INCLUDES)


def _study(search: Search, name: str, value: str, namespaces: Namespaces) -> None:
    tokens = [_token(piece) for piece in _pieces(value, name)]
    if name == "_id":
        search.add(_STUDY_UID, UidList(tuple(value for _, value in tokens)))
    elif name == "identifier":
        _study_identifier(search, tokens, namespaces)
    elif name in ("patient", "subject"):
        _of_patients(search, {value.rpartition("/")[2] for _, value in tokens})
    elif name == "patient.identifier":
        _patient_identifier(search, tokens, namespaces)
    elif name == "modality":
        wanted = {value for _, value in tokens}
        search.filters.append(lambda row: bool(wanted & set(row.get("00080061", {}).get("Value") or ())))
        search.keys.setdefault(_MODALITIES, _any_of([Single(value) for value in sorted(wanted)]))
    elif name == "status":
        search.is_nothing |= all(value != "available" for _, value in tokens)
    elif name == "endpoint":
        search.is_nothing |= all(value.rpartition("/")[2] != fhir_ids.ENDPOINT for _, value in tokens)
    else:
        path = {"series": "0020000E", "instance": "00080018", "dicom-class": "00080016"}[name]
        search.add((path,), UidList(tuple(value.removeprefix("urn:oid:") for _, value in tokens)))


def _study_identifier(search: Search, tokens: Sequence[tuple[str | None, str]], namespaces: Namespaces) -> None:
    """Study Instance UIDs, or accession numbers: an index has no "or" between two attributes."""
    uids = [
        value.removeprefix("urn:oid:")
        for system, value in tokens
        if system == UID_SYSTEM or value.startswith("urn:oid:") or (system is None and _UID.fullmatch(value))
    ]
    if len(uids) == len(tokens):
        search.add(_STUDY_UID, UidList(tuple(uids)))
        return
    if uids:
        raise Invalid("identifier takes UIDs or accession numbers, not both between commas", "identifier")
    search.add(_ACCESSION, _any_of([Single(value) for _, value in tokens]))
    search.filters.append(lambda row: _has(accession_identifier(row, namespaces), tokens))


def _of_patients(search: Search, ids: set[str]) -> None:
    found = [keys for keys in map(fhir_ids.keys_of, sorted(ids)) if keys is not None]
    if not found:
        search.is_nothing = True
        return
    if len(found) == 1:
        for path, matcher in found[0].items():
            search.add(path, matcher)
    else:
        search.add(("00100020",), _any_of([keys[("00100020",)] for keys in found]))

    def is_of_one(row: Attributes) -> bool:
        key = fhir_ids.patient_key(row)
        return key is not None and key.resource_id in ids

    search.filters.append(is_of_one)


def _patient(search: Search, name: str, value: str, namespaces: Namespaces) -> None:
    pieces = _pieces(value, name)
    tokens = [_token(piece) for piece in pieces]
    if name == "_id":
        _of_patients(search, {value for _, value in tokens})
    elif name == "identifier":
        _patient_identifier(search, tokens, namespaces)
    elif name == "gender":
        codes = [_GENDERS.get(value) for _, value in tokens]
        search.add(_SEX, _any_of([Empty() if code is None else Single(code) for code in codes]))
    else:
        starts = {"name": ("{}*", "*^{}*"), "family": ("{}*",), "given": ("*^{}*",)}[name]
        patterns = [Wildcard(start.format(piece)) for piece in pieces for start in starts]
        search.add(("00100010",), _any_of(patterns))


def _patient_identifier(search: Search, tokens: Sequence[tuple[str | None, str]], namespaces: Namespaces) -> None:
    search.add(("00100020",), _any_of([Single(value) for _, value in tokens]))
    search.filters.append(lambda row: _has(patient_identifier(row, namespaces), tokens))


def _endpoint(search: Search, name: str, value: str, namespaces: Namespaces) -> None:
    meant = {"_id": {fhir_ids.ENDPOINT}, "identifier": {namespaces.archive.urn}, "status": {"active"}}[name]
    search.is_nothing |= not meant & {_token(piece)[1] for piece in _pieces(value, name)}


def _has(identifier: Mapping[str, object] | None, tokens: Sequence[tuple[str | None, str]]) -> bool:
    return identifier is not None and any(
        value == identifier["value"] and (system is None or system == identifier.get("system", ""))
        for system, value in tokens
    )


def _pieces(value: str, name: str) -> list[str]:
    """Values between commas; one that is escaped is part of the value."""
    pieces = [re.sub(r"\\(.)", r"\1", piece).strip() for piece in re.split(r"(?<!\\),", value.replace("\0", ""))]
    if not all(piece and piece.isprintable() for piece in pieces):
        raise Invalid(f"{name} has no value", name)
    return pieces


def _token(piece: str) -> tuple[str | None, str]:
    """(system, value) of ``system|value``; system None: any, "": none."""
    system, bar, value = piece.rpartition("|")
    if not value:
        raise Invalid("A system alone cannot be searched for", "identifier")
    return (system if bar else None), value


def _any_of(matchers: Sequence[Matcher]) -> Matcher:
    return matchers[0] if len(matchers) == 1 else ValueList(tuple(matchers))


@dataclass(frozen=True, slots=True)
class _Span:
    """low ≤ moment < high, None: open; by the clock where the archive is."""

    low: datetime | None = None
    high: datetime | None = None


def _span(value: str, name: str, zone: tzinfo | None) -> _Span:
    # A plus sign that nobody escaped has become a blank on the way.
    found = _DATE.fullmatch(re.sub(r" (?=\d\d:\d\d$)", "+", value.strip()))
    if not found:
        raise Invalid(f"{name} must be a date with a prefix such as ge, le or none", name)
    prefix, year, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        low = datetime(
            *(int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0)),
            int((fraction or "").ljust(6, "0")),
        )
        if fraction:
            length = timedelta(microseconds=10 ** (6 - len(fraction)))
        elif second or hour:
            length = timedelta(seconds=1) if second else timedelta(minutes=1)
        else:
            months = [monthrange(low.year, each)[1] for each in ([low.month] if month else range(1, 13))]
            length = timedelta(days=1 if day else sum(months))
        if offset:
            low = datetime.fromisoformat(f"{low.isoformat()}{offset}").astimezone(zone).replace(tzinfo=None)
        high = low + length
    except (ValueError, OverflowError) as error:
        raise Invalid(f"{name} names a date that is none", name) from error
    return {
        "ge": _Span(low),
        "le": _Span(None, high),
        "gt": _Span(high),
        "sa": _Span(high),
        "lt": _Span(None, low),
        "eb": _Span(None, low),
    }.get(prefix or "eq", _Span(low, high))


def _dates(search: Search, spans: Sequence[_Span], *, has_times: bool) -> None:
    lows = [span.low for span in spans if span.low is not None]
    highs = [span.high for span in spans if span.high is not None]
    low, high = max(lows, default=None), min(highs, default=None)
    if low is not None and high is not None and low >= high:
        search.is_nothing = True
        return
    last = None if high is None else high - timedelta(microseconds=1)
    days = Range(*(moment.strftime("%Y%m%d").zfill(8) if moment else "" for moment in (low, last)))
    if not has_times:
        search.add(_BIRTH_DATE, days)
        return
    search.add(("00080020",), days)
    is_whole_days = all(moment is None or moment.time() == datetime.min.time() for moment in (low, high))
    if not is_whole_days:
        search.add(("00080030",), Range(*(moment.strftime("%H%M%S.%f") if moment else "" for moment in (low, last))))
