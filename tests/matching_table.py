"""What matches what: one table for the reference matcher, the index engines, C-FIND and QIDO-RS.

Each row stores one instance in a study of its own and asks one question, so one archive can hold all rows: a query with
``row.qido_parameters()`` or ``row.identifier()`` also names the row's study, and finds it or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydicom import datadict

from pacs.dicom import person_name
from pacs.dicom.model import Level
from tests.builders import ct

_ROOT = "1.2.826.0.1.3680043.10.1338.7"
_LEVELS = {Level.PATIENT: "patients", Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "instances"}
_UIDS = {Level.STUDY: "0020000D", Level.SERIES: "0020000E", Level.IMAGE: "00080018"}


@dataclass(frozen=True)
class Row:
    """One question. keys: (QIDO name, values); stored: attributes by keyword (or tag with DICOM JSON) over a CT's.

    dimse, qido: whether that protocol can put the question. counted: the answer is made by the index, so that a data
    set alone does not tell. fuzzy: with fuzzymatching=true.
    """

    number: int
    id: str
    keys: tuple[tuple[str, tuple[str, ...]], ...]
    stored: dict[str, Any] = field(hash=False)
    expected: bool
    level: Level = Level.STUDY
    dimse: bool = True
    qido: bool = True
    counted: bool = False
    fuzzy: bool = False

    @property
    def study_uid(self) -> str:
        return f"{_ROOT}.{self.number}"

    def part10(self) -> bytes:
        """The instance that the row stores."""
        own = {"PatientID": f"MT{self.number}", **self.stored}
        study = own.pop("StudyInstanceUID", self.study_uid)
        return ct(study, f"{study}.1", f"{study}.1.1", rows=2, columns=2, **own)

    def qido_path(self) -> str:
        """Below the service's root: "studies", "series", …"""
        return _LEVELS[self.level]

    def qido_parameters(self) -> list[tuple[str, str]]:
        """Names and values, not yet percent-encoded."""
        found = [(name, value) for name, values in self.keys for value in values]
        if self.fuzzy:
            found.append(("fuzzymatching", "true"))
        if all(_tag(name) != "0020000D" for name, _ in found):
            found.append(("StudyInstanceUID", self.study_uid))
        return found

    def identifier(self) -> dict[str, Any]:
        """A C-FIND identifier in DICOM JSON, for the Patient Root model with relational queries."""
        level = self.level.name
        found: dict[str, Any] = {
            "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
            "00080052": {"vr": "CS", "Value": [level]},
            "00100020": {"vr": "LO"},
            "0020000D": {"vr": "UI", "Value": [self.study_uid]},
        }
        for at, tag in _UIDS.items():
            if at <= self.level:
                found.setdefault(tag, {"vr": "UI"})
        for name, values in self.keys:
            data_set = found
            *outer, last = [_tag(part) for part in name.split(".")]
            for tag in outer:
                data_set = data_set.setdefault(tag, {"vr": "SQ", "Value": [{}]})["Value"][0]
            vr = "SH" if last == "00091002" else "LO" if last[3] == "9" else _vr(last)
            data_set[last] = {"vr": vr, "Value": [_value(vr, one) for value in values for one in value.split("\\")]}
            if values in ((), ("",)):
                data_set[last] = {"vr": vr}
        return dict(sorted(found.items()))


def stored_instances() -> list[tuple[str, bytes]]:
    """(row id, Part 10 file) of every row."""
    return [(row.id, row.part10()) for row in ROWS]


def _tag(name: str) -> str:
    number = datadict.tag_for_keyword(name)
    return name.upper() if number is None else f"{number:08X}"


def _vr(tag: str) -> str:
    return datadict.dictionary_VR(int(tag, 16)).split(" ")[0]


def _value(vr: str, text: str) -> Any:
    if vr == "PN":
        return person_name.to_json(text)
    if vr in ("US", "SS", "UL", "SL"):
        return int(text)
    return float(text) if vr in ("FL", "FD") else text


# Groups of rows: attribute, level, what is stored, then (key, expected) with options. A key may be a tuple: a repeated
# parameter, several values.
_Question = tuple[Any, ...]
_WEB = {"dimse": False}
_WIRE = {"qido": False}
_FUZZY = {"fuzzy": True, "dimse": False}


def _group(
    name: str, stored: Any, *questions: _Question, level: Level = Level.STUDY, also: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    keyword = name if isinstance(name, str) else ""
    attributes = {keyword: stored} if not isinstance(stored, dict) else stored
    for key, expected, *options in questions:
        values = key if isinstance(key, tuple) else (key,)
        merged: dict[str, Any] = {"level": level}
        for option in options:
            merged.update(option)
        yield {
            "id": f"{name} {_short(stored)} asked {_short(key)}",
            "keys": ((name, values), *merged.pop("more", ())),
            "stored": {**attributes, **(also or {})},
            "expected": expected,
            **merged,
        }


def _short(value: Any) -> str:
    return "absent" if value is ... else "empty" if value is None else repr(value)[:60]


def _all() -> Iterator[dict[str, Any]]:
    patient, series, image = {"level": Level.PATIENT}, {"level": Level.SERIES}, {"level": Level.IMAGE}
    # Person names
    yield from _group(
        "PatientName",
        "Doe^John^Q",
        *(("Doe^John^Q", True), ("DOE^JOHN^Q", True), ("doe^john^q^^", True), ("Doe^John", False), ("Doe", False)),
        *(
            ("Doe*", True),
            ("doe^j*", True),
            ("*john*", True),
            ("D?e^*", True),
            ("D?^*", False),
            ("*", True),
            ("", True),
        ),
        *(("Doe^*^*", True), ("Doe^*^*^*^*", True), ("Roe*", False), ('""', False), (" Doe^John^Q ", True)),
        *(("*^JOHN^*", True), ("?oe^????^?", True), ("?oe^???^?", False), ("Do[e]*", False), ("Do%", False)),
        *(("john", True, _FUZZY), ("jo do", True, _FUZZY), ("Jon", True, _FUZZY), ("Smith", False, _FUZZY)),
        *(("Dow", True, _FUZZY), ("John Miller", False, _FUZZY), ("Doe*", True, _FUZZY), (("Roe", "Doe*"), True)),
    )
    yield from _group(
        "PatientName", "Doe", ("Doe", True), ("Doe^*", True), ("Doe^J*", False), ("Do", False), ("D*", True)
    )
    yield from _group("PatientName", "Doe ^ John", ("Doe^John", True), ("doe^j*", True))
    yield from _group("PatientName", None, ("", True), ("*", True), ('""', True), ("A*", False), ("?", False))
    yield from _group("PatientName", ..., ("", True), ("*", True), ('""', True), ("A", False), level=Level.PATIENT)
    yield from _group(
        "PatientName",
        "Müller^Jörg",
        *(
            ("MULLER*", True),
            ("Müller^Jörg", True),
            ("muller^jorg", True),
            ("Mu\u0308ller*", True),
            ("Mueller*", False),
        ),
        *(("M?ller^*", True), ("Jurg Mueler", True, _FUZZY)),
    )
    yield from _group(
        "PatientName", "Ångström^Zoë", ("angstrom^zoe", True), ("ANG*", True), ("ång*", True), ("öng*", False)
    )
    yield from _group("PatientName", "Łukasz^Øst", ("lukasz^ost", True), ("Ł*", True), ("*øst", True))
    yield from _group("PatientName", "Παπαδόπουλος^Γιώργος", ("ΠΑΠΑΔΟΠΟΥΛΟΣ*", True), ("*Γιωργος", True), ("Γ*", False))
    yield from _group("PatientName", "Люкceмбypг^Йод", ("люк*", True), ("*ЙОД", True), ("ЛЮ", False))
    yield from _group(
        "PatientName",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        *(
            ("yamada^tarou", True),
            ("Yamada*", True),
            ("山田^太郎", True),
            ("山*", True),
            ("やまだ*", True),
            ("ヤマダ*", False),
        ),
        *(
            ("=山田^太郎", True),
            ("==やまだ^たろう", True),
            ("Yamada*=山田*", True),
            ("Yamada*=鈴木*", False),
            ("=Yamada*", False),
        ),
        *(("?田^*", True), ("山田", False), ("山 た", True, _FUZZY), ("==やまた*", False), ("Suzuki*", False)),
        *(("Yamada^Tarou=山田^太郎=やまだ^たろう", True), ("Yamada^Tarou=山田^太郎=やまだ^たろ", False)),
    )
    yield from _group("PatientName", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", ("ヤマダ*", True), ("ﾔﾏﾀﾞ^ﾀﾛｳ", True))
    yield from _group(
        "PatientName",
        "=王^小東",
        ("王*", True),
        ("=王^小東", True),
        ("王小東", False),
        ("*小東", True),
        ("Wang*", False),
    )
    yield from _group(
        "PatientName", "Wang^XiaoDong=王^小东", ("王^小东", True), ("wang^*=王^*", True), ("王^小東", False)
    )
    yield from _group(
        "PatientName",
        "Hong^Gildong=洪^吉洞=홍^길동",
        ("홍^길동", True),
        ("홍*", True),
        ("洪^吉洞", True),
        ("=홍*", False),
        ("==홍*", True),
    )
    yield from _group(
        "OtherPatientNames",
        ["Alpha^A", "Beta^B=山田"],
        ("alpha^a", True),
        ("BETA*", True),
        ("山田", True),
        ("Alpha*=山*", False),
    )
    yield from _group(
        "ReferringPhysicianName", "House^Gregory", ("house^*", True), ("House", False), ("greg", True, _FUZZY)
    )
    yield from _group("OperatorsName", ["A^B", "C^D"], ("c^d", True), ("A*", True), ("E*", False), level=Level.SERIES)
    yield from _group("PerformingPhysicianName", "Smith^J", ("Smyth", True, _FUZZY), ("Jones", False, _FUZZY))
    # Text
    yield from _group(
        "PatientID",
        "Ab-12",
        ("ab-12", True),
        ("AB-12 ", True),
        ("AB*", True),
        ("AB-1", False),
        ("?B-1?", True),
        level=Level.PATIENT,
    )
    yield from _group("PatientID", ..., ("", True), ("X", False), ('""', True), level=Level.PATIENT)
    yield from _group("PatientSex", "F", ("f", True), ("M", False), (("M", "F"), True), ("M\\F", True, _WIRE))
    yield from _group(
        "AccessionNumber", "100%_[x]", ("100%_[x]", True), ("100%*", True), ("*_[x]", True), ("*[x]", True)
    )
    yield from _group(
        "AccessionNumber", "100AB", ("100%", False), ("100__", False), ("100[A]B", False), ("100[A-Z]*", False)
    )
    yield from _group("AccessionNumber", "A,B", ("A,B", True), ("A", False), ("A*", True))
    yield from _group("AccessionNumber", None, ('""', True), ("A", False), ("*", True), ("", True), ("?*", False))
    yield from _group("AccessionNumber", "x*y?z", ("x*y?z", True), ("x*", True))
    yield from _group(
        "StudyDescription",
        "Thorax Übersicht",
        *(
            ("THORAX übersicht", True),
            ("thorax Ubersicht", False),
            ("*ÜBER*", True),
            ("Thorax", False),
            ("T*x*t", True),
        ),
        *(("  thorax übersicht  ", True), ("t??rax *", True), ("T*a*b*c*d*", False), ("***t***", True)),
    )
    yield from _group("StudyDescription", "Straße", ("STRASSE", True), ("straße", True), ("stra*", True))
    yield from _group("StudyDescription", "腹部CT", ("腹部ct", True), ("腹*", True), ("?部CT", True), ("胸*", False))
    yield from _group("StudyDescription", "흉부", ("흉부", True), ("흉?", True), ("흉", False))
    yield from _group(
        "AdmittingDiagnosesDescription", ["Cough", "Fever"], ("fever", True), ("C*", True), ("Cough*Fever", False)
    )
    yield from _group(
        "PatientComments",
        "a\\b and more",
        ("a\\b*", True, _WEB),
        ("*MORE", True),
        ("a", False, _WEB),
        level=Level.PATIENT,
    )
    yield from _group("PatientAge", "045Y", ("045y", True), ("045Y", True), ("45Y", False), ("*", True))
    yield from _group("StationAETitle", "MOD1", ("mod1", True), ("MOD*", True), ("MOD2", False), level=Level.IMAGE)
    yield from _group("InstitutionAddress", "Main Street 1", ("main*", True), ("*2", False), level=Level.IMAGE)
    yield from _group("LongCodeValue", "a-very-long-code", ("A-VERY*", True), ("a-very", False), level=Level.IMAGE)
    yield from _group("TextValue", "Some text", ("some TEXT", True), ("Some", False), level=Level.IMAGE)
    yield from _group(
        "URNCodeValue", "urn:a:b", ("urn:a:b", True), ("urn:*", True), ("urn:c", False), level=Level.IMAGE
    )
    yield from _group(
        "BodyPartExamined", "CHEST", ("chest", True), ("CH?ST", True), ("HEAD", False), level=Level.SERIES
    )
    yield from _group(
        "ImageType",
        ["ORIGINAL", "PRIMARY", "AXIAL"],
        ("primary", True),
        ("AX*", True),
        ("LOC*", False),
        level=Level.IMAGE,
    )
    yield from _group(
        "Modality", "CT", ("ct", True), ("C?", True), ("MR", False), ("MR\\CT", True, _WIRE), level=Level.SERIES
    )
    yield from _group("Modality", "CT", ("CT", True), ("MR", False))  # below the level that is asked for
    yield from _group("AccessionNumber", "UP1", ("up1", True, series), ("UP1", True, image), ("UP2", False, image))
    # UIDs
    yield from _group("StudyInstanceUID", {}, ("1.2.3", False), ("*", True, _WEB))
    uid = "1.2.840.10008.5.1.4.1.1.2"
    yield from _group(
        "SOPClassUID", {}, (uid, True), (uid + ".1", False), (f"1.2.3,{uid}", True, _WEB), level=Level.IMAGE
    )
    yield from _group("SOPClassUID", {}, (f"1.2.3\\{uid}", True), (("1.2.3", uid), True, _WEB), (uid[:-1], False))
    yield from _group(
        "FrameOfReferenceUID", "1.2.3.4", ("1.2.3.4", True), ("1.2.3", False), ("1.2.3.04", False), level=Level.IMAGE
    )
    yield from _group("FrameOfReferenceUID", ..., ('""', True), ("1.2.3.4", False), level=Level.IMAGE)
    # Numbers
    yield from _group(
        "SeriesNumber",
        1,
        ("1", True),
        ("01", True),
        ("1.0", True, _WEB),
        ("+1", True),
        ("10", False),
        level=Level.SERIES,
    )
    yield from _group("SeriesNumber", None, ("1", False), ('""', True), ("", True), ("*", True), level=Level.SERIES)
    yield from _group("InstanceNumber", 12, ("012", True), ("1", False), ("12", True), level=Level.IMAGE)
    yield from _group("InstanceNumber", -3, ("-3", True), ("3", False), level=Level.IMAGE)
    yield from _group("PatientWeight", 70.5, ("70.5", True), ("70.50", True), ("7.05e1", True), ("70", False))
    yield from _group("PatientSize", 2, ("2", True), ("2.0", True), ("02", True), ("2.01", False))
    yield from _group("SliceThickness", 1.25, ("1.25", True), ("1.250", True), ("1.2", False), level=Level.IMAGE)
    yield from _group("PixelSpacing", [0.5, 0.75], ("0.75", True), (".5", True), ("0.6", False), level=Level.IMAGE)
    yield from _group("Rows", {}, ("2", True), ("02", True), ("3", False), ("*", True, _WEB), level=Level.IMAGE)
    yield from _group("Rows", {}, ("2", True), ("512", False))
    yield from _group("TagAngleSecondAxis", -5, ("-5", True), ("5", False), level=Level.IMAGE)
    yield from _group("ReferencePixelX0", -70000, ("-70000", True), ("70000", False), level=Level.IMAGE)
    yield from _group("RegionLocationMinX0", 70000, ("70000", True), ("7", False), level=Level.IMAGE)
    yield from _group("SingleCollimationWidth", 0.1, ("0.1", True), ("0.10", True), ("0.11", False), level=Level.IMAGE)
    yield from _group("DistanceSourceToIsocenter", 0.1, ("0.1", True), ("0.2", False), level=Level.IMAGE)
    yield from _group("SmallestImagePixelValue", 7, ("7", True), ("8", False), level=Level.IMAGE)
    yield from _group(
        "FrameIncrementPointer", "00181063", ("00181063", True, _WEB), ("00181065", False, _WEB), level=Level.IMAGE
    )
    # Dates
    yield from _group(
        "StudyDate",
        "20200131",
        *(("20200131", True), ("20200130", False), ("20200101-20200131", True), ("20200131-20200131", True)),
        *(
            ("20200201-20200228", False),
            ("-20200131", True),
            ("-20200130", False),
            ("20200131-", True),
            ("20200201-", False),
        ),
        *(("2020.01.31", True), ("*", True), ("", True), ('""', False), (("20200101", "20200131"), True)),
    )
    yield from _group("StudyDate", "2020.01.31", ("20200131", True), ("20200101-20200201", True), ("20200201", False))
    yield from _group("StudyDate", ..., ("20200131", False), ("20200101-", False), ("-20200101", False), ('""', True))
    yield from _group("StudyDate", "00000000", ("-20200101", False), ("19000101-", False), ('""', False))
    yield from _group(
        "PatientBirthDate", "19700101", ("19700101", True), ("19600101-19691231", False), level=Level.PATIENT
    )
    yield from _group("AcquisitionDate", "20200229", ("20200229", True), ("20200301-", False), level=Level.IMAGE)
    # Times
    yield from _group(
        "StudyTime",
        "101530.5",
        *(("101530.5", True), ("101530", True), ("1015", True), ("10", True), ("11", False), ("101531", False)),
        *(("1015-1016", True), ("10-", True), ("-10", True), ("-1015", True), ("-1014", False), ("101530.6-", False)),
        *(("10:15:30", True), ("10:15-10:16", True), ("101530.500000", True), ("101530.49", False)),
    )
    yield from _group("StudyTime", "10", ("10", True), ("1000", True), ("1015", False), ("0959-1000", True))
    yield from _group("StudyTime", "10:15:00", ("1015", True), ("101500-101501", True), ("1016", False))
    yield from _group("StudyTime", "235960", ("2359", True), ("235959-", True), ("-235959", False))
    yield from _group("StudyTime", "9999", ("00-", False), ("23", False), ('""', False))
    yield from _group("SeriesTime", "0000", ("00", True), ("-01", True), level=Level.SERIES)
    # Date and time together
    dated = {"StudyDate": "20200131", "StudyTime": "1000"}
    for name, date, time, expected in (
        ("inside", "20200131-20200131", "09-11", True),
        ("over midnight", "20200130-20200201", "22-02", True),
        ("before", "20200131-20200201", "1001-02", False),
        ("after", "20200130-20200131", "22-0959", False),
        ("open end", "20200131-", "1000-", True),
        ("open beginning", "-20200131", "-0959", False),
    ):
        yield from _group(
            "StudyDate", dated, (date, expected, {"id": f"date and time {name}", "more": (("StudyTime", (time,)),)})
        )
    yield from _group(
        "StudyDate",
        {"StudyDate": "20200131", "StudyTime": ...},
        (
            "20200130-20200201",
            False,
            {"id": "date and time without a stored time", "more": (("StudyTime", ("00-23",)),)},
        ),
    )
    yield from _group(
        "StudyDate",
        dated,
        ("20200131", False, {"id": "a date and a time range apart", "more": (("StudyTime", ("11-12",)),)}),
    )
    # Dates with times
    yield from _group(
        "AcquisitionDateTime",
        "20200131101500.5",
        *(("20200131101500.5", True), ("202001311015", True), ("20200131", True), ("2020", True), ("202002", False)),
        *(
            ("20200131-20200201", True),
            ("2020013110-2020013111", True),
            ("-20200131", True),
            ("20200131101501-", False),
        ),
        *(("2020-2021", True), ("20200131101500+0100", True), ("20200131101600+0100", False)),
        level=Level.IMAGE,
    )
    yield from _group(
        "AcquisitionDateTime",
        "20200131101500+0100",
        *(("20200131091500+0000", True), ("20200131041500-0500", True), ("20200131101500+0000", False)),
        *(
            ("20200131041400-0500-20200131041600-0500", True),
            ("20200131091600+0000-", False),
            ("-20200131091500+0000", True),
        ),
        *(("20200131041400-0500-", True), ("20200131101500", True), ("2020013110-2020013111", True)),
        level=Level.IMAGE,
    )
    yield from _group(
        "AcquisitionDateTime",
        "20200131101500",
        *(("20200131091500+0000", True), ("20200131101500+0000", False), ("20200131101500", True)),
        level=Level.IMAGE,
        also={"TimezoneOffsetFromUTC": "+0100"},
    )
    # Sequences
    request = [
        {"ScheduledProcedureStepID": "S1", "RequestedProcedureID": "R1"},
        {"ScheduledProcedureStepID": "S2", "RequestedProcedureID": "R2"},
    ]
    step, procedure = (
        "RequestAttributesSequence.ScheduledProcedureStepID",
        "RequestAttributesSequence.RequestedProcedureID",
    )
    stored = {"RequestAttributesSequence": request}
    yield from _group(
        step,
        stored,
        *(("s2", True), ("S*", True), ("S3", False), ("", True)),
        ("S1", True, {"id": "one item meets both keys", "more": ((procedure, ("R1",)),)}),
        ("S1", False, {"id": "no item meets both keys", "more": ((procedure, ("R2",)),)}),
        level=Level.SERIES,
    )
    yield from _group("00400275.00401001", stored, ("R2", True), ("R3", False), level=Level.SERIES)
    yield from _group(
        step, {"RequestAttributesSequence": ...}, ("S1", False), ("", True), ("*", True), level=Level.SERIES
    )
    yield from _group(
        "ProcedureCodeSequence.CodeValue", {"ProcedureCodeSequence": [{"CodeValue": "C1"}]}, ("c1", True), ("C2", False)
    )
    nested = {"RequestAttributesSequence": [{"RequestedProcedureCodeSequence": [{"CodeMeaning": "Brust-Röntgen"}]}]}
    path = "RequestAttributesSequence.RequestedProcedureCodeSequence.CodeMeaning"
    yield from _group(path, nested, ("brust*", True), ("Kopf*", False), level=Level.SERIES)
    # Private attributes
    private = {
        "00090010": {"vr": "LO", "Value": ["OTHER"]},
        "00090011": {"vr": "LO", "Value": ["ACME 1.0"]},
        "00091002": {"vr": "SH", "Value": ["theirs"]},
        "00091102": {"vr": "SH", "Value": ["ours"]},
    }
    for creator, key, expected in (
        *(("ACME 1.0", "OURS", True), ("ACME 1.0", "o*", True), ("ACME 1.0", "theirs", False)),
        *(("OTHER", "theirs", True), ("OTHER", "ours", False), ("UNKNOWN", "ours", False)),
    ):
        named = {"id": f"private {key} of {creator}", "more": (("00090010", (creator,)),)}
        yield from _group("00091002", private, (key, expected, named), level=Level.IMAGE)
    yield from _group("00091102", private, ("ours", True, _WEB), level=Level.IMAGE)
    # Made by the index
    counted = {"counted": True}
    yield from _group("ModalitiesInStudy", {}, ("CT", True, counted), ("ct", True, counted), ("MR", False, counted))
    yield from _group("ModalitiesInStudy", {}, ("C*", True, counted), ("MR\\CT", True, counted, _WIRE))
    yield from _group("SOPClassesInStudy", {}, (uid, True, counted), ("1.2.3", False, counted))
    yield from _group("NumberOfStudyRelatedInstances", {}, ("1", True, counted), ("2", False, counted))
    yield from _group("NumberOfStudyRelatedSeries", {}, ("01", True, counted), ("2", False, counted))
    yield from _group(
        "NumberOfSeriesRelatedInstances", {}, ("1", True, counted), ("0", False, counted), level=Level.SERIES
    )
    yield from _group(
        "NumberOfPatientRelatedStudies", {}, ("1", True, counted, patient), ("5", False, counted, patient)
    )
    # Names of keys
    yield from _group("00100010", {"PatientName": "Hex^Key"}, ("hex*", True))
    yield from _group("0020000d", {}, ("1.2.3", False, _WEB, {"id": "lower case tag"}))
    yield from _group("00080050", {"AccessionNumber": "HX"}, ("hx", True))


def _numbered() -> tuple[Row, ...]:
    seen: dict[str, int] = {}
    rows = []
    for number, values in enumerate(_all(), 1):
        name = values.pop("id")
        seen[name] = seen.get(name, 0) + 1
        rows.append(Row(number=number, id=name if seen[name] == 1 else f"{name} ({seen[name]})", **values))
    return tuple(rows)


ROWS = _numbered()

# Keys that cannot mean anything: Invalid, 400 in QIDO-RS. (name, value)
MALFORMED = (
    *(("StudyDate", "2020-01-31"), ("StudyDate", "20201331"), ("StudyDate", "20200230"), ("StudyDate", "2020*")),
    *(
        ("StudyDate", "-"),
        ("StudyDate", "today"),
        ("StudyDate", "20200101-20200230"),
        ("StudyDate", "20200101--20200201"),
    ),
    *(("StudyTime", "25"), ("StudyTime", "1060"), ("StudyTime", "10-99"), ("StudyTime", "1?"), ("StudyTime", "noon")),
    *(("AcquisitionDateTime", "20201301"), ("AcquisitionDateTime", "2020+9900"), ("AcquisitionDateTime", "x-y")),
    *(("StudyInstanceUID", "1.2.*"), ("StudyInstanceUID", "not-a-uid"), ("SOPClassUID", "1.2.3,abc")),
    *(
        ("SeriesNumber", "1*"),
        ("SeriesNumber", "one"),
        ("Rows", "tall"),
        ("PatientWeight", "7O"),
        ("PatientAge", "04?Y"),
    ),
)
