"""Records for index tests, made without files."""

from __future__ import annotations

import hashlib
import itertools
import random
from datetime import UTC, datetime
from typing import Any

from pacs.dicom.attributes import UNIQUE_KEYS
from pacs.dicom.layout import Layout, PixelLayout, Span
from pacs.dicom.matching import (
    CombinedRange,
    Empty,
    Matcher,
    Range,
    Sequence,
    Single,
    TagPath,
    UidList,
    ValueList,
    Wildcard,
    Words,
)
from pacs.dicom.model import BlobRef, Caller, Header, InstanceRecord, Level, Target
from tests.builders import json_of

CT, MR, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.88.11"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
_numbers = itertools.count()


def record(
    study: str = "1",
    series: str = "1.1",
    sop: str = "1.1.1",
    *,
    version: str = "",
    sop_class: str = CT,
    transfer_syntax: str = EXPLICIT,
    size_bytes: int = 100,
    **attributes: Any,
) -> InstanceRecord:
    """attributes: by keyword, over an ordinary CT's; ``...`` leaves one out. version: other bytes, another digest."""
    keywords = {
        "PatientName": "Doe^Jane",
        "PatientID": "P1",
        "StudyDate": "20240131",
        "StudyTime": "101500",
        "AccessionNumber": "A1",
        "Modality": "CT",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "Rows": 512,
        "SOPClassUID": sop_class,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "SOPInstanceUID": sop,
        **attributes,
    }
    data_set = json_of(keywords)
    digest = hashlib.sha256(f"{version}{data_set}".encode()).hexdigest()
    layout = Layout(PixelLayout("7FE00010", Span(1000, size_bytes), False, 1, size_bytes), {"00420011": Span(200, 40)})
    return InstanceRecord(
        Header(Target(study, series, sop), sop_class, transfer_syntax, 132, data_set, layout),
        BlobRef(f"{study}/{series}/{sop}-{next(_numbers)}", size_bytes, f"sha256:{digest}"),
        datetime.now(UTC),
        Caller("MODALITY", "127.0.0.1", "dimse"),
    )


def random_record(rng: random.Random) -> InstanceRecord:
    """One of few identities with few values each, so that everything collides."""
    study = rng.choice(["1", "2", "3", "4"])
    series = f"{study}.{rng.choice('12')}"
    attributes: dict[str, Any] = {
        "PatientID": rng.choice(["P1", "P1", "P2", "p3", "", ...]),
        "IssuerOfPatientID": rng.choice([..., ..., "Hospital"]),
        "PatientName": rng.choice(_NAMES),
        "OtherPatientNames": rng.choice([..., ["Alpha^A", "Beta=山田"], ["Doe"]]),
        "PatientBirthDate": rng.choice([..., "19700101", "1970.01.01", "unknown", ""]),
        "PatientSex": rng.choice([..., "F", "M"]),
        "StudyDate": rng.choice(["20240131", "20240131", "20240201", ["20230101", "20250101"], "00000000", ...]),
        "StudyTime": rng.choice(["101500", "10", "235959.5", "10:15:00", ["01", "23"], "9999", ...]),
        "AccessionNumber": rng.choice(["A1", "a1 ", "B_%[x]", "", ...]),
        "StudyDescription": rng.choice(["Thorax", "THORAX", "Thoráx", "100% \\ [a]_?*", ...]),
        "PatientWeight": rng.choice([..., 70, 70.5, "070", "heavy", [70, 80]]),
        "Modality": rng.choice(["CT", "CT", "MR", "sr", "", ...]),
        "SeriesNumber": rng.choice([1, "01", 2, [1, 2], "x", ...]),
        "SeriesDescription": rng.choice(["Lung", "lung ", "a\u0000b", "Ωμέγα", ...]),
        "InstanceNumber": rng.choice([1, 2, 10, ...]),
        "Rows": rng.choice([512, 256, ...]),
        "ImageType": rng.choice([["ORIGINAL", "PRIMARY"], ["DERIVED"], ...]),
        "AcquisitionDateTime": rng.choice(
            [..., "20240131101500", "20240131101500+0100", "20240131091500-0000", "2024", "nonsense"]
        ),
        "TimezoneOffsetFromUTC": rng.choice([..., ..., "+0100", "bad"]),
        "NumberOfStudyRelatedInstances": rng.choice([..., 77]),
        "SliceThickness": rng.choice([..., 1, "1.0", 2.5]),
        "RequestAttributesSequence": rng.choice(
            [
                ...,
                [],
                [{"ScheduledProcedureStepID": "S1", "RequestedProcedureID": "R1"}, {"RequestedProcedureID": "R2"}],
            ]
        ),
        "ProcedureCodeSequence": rng.choice([..., [{"CodeValue": "C1", "CodeMeaning": "x"}]]),
        **rng.choice(_PRIVATE),
    }
    sop = f"{rng.choice(['9', series])}.{rng.choice('123')}"
    return record(
        study,
        series,
        sop,
        version=rng.choice(["", "", "again"]),
        sop_class=rng.choice([CT, CT, MR, SR]),
        transfer_syntax=rng.choice([EXPLICIT, EXPLICIT, IMPLICIT]),
        size_bytes=rng.randrange(1, 1000),
        **attributes,
    )


_NAMES = (
    *("Doe^Jane", "DOE^JANE^^", "Doe", "Müller^Jörg", "Yamada^Tarou=山田^太郎=やまだ^たろう", "=山田", "^^^", "", ...),
    *("Παπαδόπουλος^Γιώργος", "Hong^Gildong=洪^吉洞=홍^길동", ["Doe^Jane", "Roe^Jim"]),
)
_PRIVATE: tuple[dict[str, Any], ...] = (
    {},
    {"00090010": {"vr": "LO", "Value": ["ACME"]}, "00091002": {"vr": "LO", "Value": ["Secret"]}},
    {
        "00090010": {"vr": "LO", "Value": ["OTHER"]},
        "00090011": {"vr": "LO", "Value": ["ACME"]},
        "00091002": {"vr": "LO", "Value": ["theirs"]},
        "00091102": {"vr": "LO", "Value": ["secret"]},
    },
)

_SEARCHES: tuple[tuple[str, tuple[Matcher, ...]], ...] = (
    (
        "00100020",
        (Single("P1"), Single("p3"), Wildcard("P*"), Wildcard("?2"), Empty(), ValueList((Single("P1"), Empty()))),
    ),
    (
        "00100010",
        (
            *(
                Single("doe^jane"),
                Single("Doe"),
                Wildcard("MULLER*"),
                Wildcard("doe^*"),
                Wildcard("*^j*"),
                Single("=山田"),
            ),
            *(Wildcard("山*"), Wildcard("*たろう"), Wildcard("y*=山*"), Single("홍^길동"), Empty(), Words(("jan",))),
            *(Words(("mueler",)), Words(("山",)), Wildcard("παπα*"), Wildcard("*^*"), Wildcard("d?e^*^*")),
        ),
    ),
    ("00101001", (Single("beta"), Wildcard("*山*"), Single("Doe"), Empty(), Words(("alfa",)))),
    ("00100030", (Single("19700101"), Range("19690101", ""), Range("", "19700101"), Empty())),
    ("00100040", (Single("f"), ValueList((Single("F"), Single("M"))), Empty())),
    ("00080020", (Single("20240131"), Range("20240101", "20240131"), Range("", "20231231"), Range("20250101", ""))),
    (
        "00080020",
        (
            CombinedRange(("00080030",), Range("20240131", "20240131"), Range("1014", "1016")),
            CombinedRange(("00080030",), Range("20230101", "20240131"), Range("02", "10")),
            CombinedRange(("00080030",), Range("20240131", ""), Range("1015", "")),
            CombinedRange(("00080030",), Range("", "20240131"), Range("", "1014")),
        ),
    ),
    ("00080030", (Single("10"), Single("1015"), Range("1015", "1016"), Range("", "09"), Range("2359", ""), Empty())),
    ("00080050", (Single("A1"), Wildcard("*[*"), Wildcard("B_%*"), Wildcard("?1"), Empty())),
    ("00081030", (Single("thorax"), Wildcard("THOR?X"), Wildcard("100% \\*"), Wildcard("*[a]_*"), Wildcard("*\\ [*"))),
    ("00101030", (Single("70"), Single("70.50"), Single("80"), Empty())),
    ("00080060", (Single("ct"), Wildcard("?R"), Empty())),
    ("00080061", (Single("MR"), Single("CT"), Wildcard("s*"), Empty())),
    ("00080062", (UidList((SR,)), UidList((MR, CT)), Empty())),
    ("00200011", (Single("1"), Single("02"), Single("1.0"), Empty())),
    ("0008103E", (Single("LUNG"), Single("ab"), Wildcard("ωμ*"), Wildcard("*μέγα"), Empty())),
    ("00280010", (Single("512"), Single("0256"), Empty())),
    ("00080008", (Single("primary"), Wildcard("D*"), Empty())),
    (
        "0008002A",
        (
            *(
                Single("20240131"),
                Single("20240131091500+0000"),
                Range("20240131091500+0000", ""),
                Range("2024", "2024"),
            ),
            *(Range("", "20240131091500+0000"), Range("20240131101500", "20240131101500+0100"), Empty()),
        ),
    ),
    ("00201200", (Single("1"), Single("2"))),
    ("00201204", (Single("3"), Single("1"))),
    ("00201206", (Single("2"),)),
    ("00201208", (Single("2"), Single("77"), Single("3"))),
    ("00201209", (Single("1"), Single("2"))),
    ("00083002", (UidList((IMPLICIT,)), UidList((EXPLICIT,)))),
    ("00080016", (UidList((SR,)), UidList((MR, CT)))),
    ("00080018", (UidList(("9.1",)), UidList(("1.1.1", "2.1.2")))),
    ("0020000D", (UidList(("1",)), UidList(("2", "3")), Wildcard("*"))),
    ("0020000E", (UidList(("1.2", "3.1")),)),
    ("00180050", (Single("1"), Single("2.5"), Empty())),
    ("00080201", (Single("+0100"), Empty())),
    (
        "00400275",
        (
            Sequence({("00400009",): Single("s1"), ("00401001",): Single("R1")}),
            *(Sequence({("00400009",): Single("s1"), ("00401001",): Single("R2")}), Empty(), Sequence({})),
        ),
    ),
    ("00081032", (Sequence({("00080100",): Wildcard("c*")}), Empty())),
    ("00090002@ACME", (Single("secret"), Wildcard("S*"), Empty())),
    ("00091002", (Single("theirs"), Wildcard("*"))),
)


def random_keys(rng: random.Random) -> dict[TagPath, Matcher]:
    chosen = rng.sample(_SEARCHES, rng.choice([0, 1, 1, 1, 2, 2, 3]))
    keys: dict[TagPath, Matcher] = {(tag,): rng.choice(choices) for tag, choices in chosen}
    if rng.random() < 0.1:
        keys[("00400275", "00401001")] = Single(rng.choice(["R1", "R2"]))
    return keys


NAMED_TAGS = (
    *(tag for tag, _ in _SEARCHES if "@" not in tag),
    *("00090002@ACME", "00201202", "00081050", "00100021", *UNIQUE_KEYS.values()),
)
LEVELS = tuple(Level)
