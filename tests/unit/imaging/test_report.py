from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from pacs.imaging import report
from tests.unit.imaging import sources
from tests.wire import shown_objects as shown

BASE = "http://archive/dicom-web"


class Checker(HTMLParser):
    """Notes what is opened and not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def made(folder: Path, content: list[dict[str, Any]], **more: Any) -> Any:
    path = folder / "report.dcm"
    path.write_bytes(shown.report("1.2.3", content, **more))
    return sources.source_of(path)


def test_real_reports_are_well_formed() -> None:
    for name in ("reportsi.dcm", "test-SR.dcm", "reportsi_with_empty_number_tags.dcm"):
        page = report.html(sources.source_of(sources.real(name)), BASE).decode()
        checker = Checker()
        checker.feed(page)
        assert not checker.open
        assert checker.seen[:2] == ["html", "head"]
        assert checker.seen.count("p") >= 2


def test_each_value_type_is_readable(tmp_path: Path) -> None:
    items = [
        shown.item("CODE", "Finding", ConceptCodeSequence=[shown.code("C1", "Nodule")]),
        shown.item("DATE", "Day", Date="20240131"),
        shown.item("TIME", "Hour", Time="101500.25"),
        shown.item("DATETIME", "Moment", DateTime="20240131101500"),
        shown.item("PNAME", "Reader", PersonName="Doe^Jane^^Dr"),
        shown.item("UIDREF", "Object", UID="1.2.3"),
        shown.item("NUM", "Volume", NumericValueQualifierCodeSequence=[shown.code("114000", "Not a number")]),
        shown.item("SCOORD", "Outline", GraphicType="POLYLINE", GraphicData=[1.0, 2.0]),
        shown.item("COMPOSITE", "Elsewhere", ReferencedSOPSequence=[{"ReferencedSOPInstanceUID": "9.9"}]),
    ]
    lines = report.text(made(tmp_path, items), BASE).decode().splitlines()
    for expected in (
        "Finding: Nodule (C1, 99TEST)",
        "Day: 2024-01-31",
        "Hour: 10:15:00",
        "Moment: 2024-01-31 10:15:00",
        "Reader: Doe, Jane Dr",
        "Object: 1.2.3",
        "Volume: Not a number",
        "Outline: Polyline (1.0, 2.0)",
        "Elsewhere: Composite 9.9",
    ):
        assert expected in lines


def test_an_item_by_reference_links_within_the_page(tmp_path: Path) -> None:
    items = [
        shown.item("TEXT", "First", TextValue="a"),
        {"RelationshipType": "INFERRED FROM", "ReferencedContentItemIdentifier": [1, 1]},
    ]
    page = report.html(made(tmp_path, items), BASE).decode()
    assert '<p id="i1">' in page
    assert '<a href="#i1">see 1</a>' in page


def test_deep_nesting_is_no_danger(tmp_path: Path) -> None:
    item = shown.item("TEXT", "Innermost", TextValue="end")
    for depth in range(150):
        item = shown.item("CONTAINER", f"Level {depth}", ContentSequence=[item])
    source = made(tmp_path, [item])
    checker = Checker()
    checker.feed(report.html(source, BASE).decode())
    assert not checker.open
    assert "Innermost: end" in report.text(source, BASE).decode()


def test_markup_in_any_text_is_escaped(tmp_path: Path) -> None:
    evil = "\"'><img src=x onerror=alert(1)>"
    items = [
        shown.item("TEXT", evil, TextValue=evil),
        shown.item("CODE", "c", ConceptCodeSequence=[{"CodeValue": evil[:16], "CodeMeaning": evil}]),
        shown.item("COMPOSITE", "r", ReferencedSOPSequence=[{"ReferencedSOPInstanceUID": evil}]),
    ]
    checker = Checker()
    checker.feed(report.html(made(tmp_path, items, PatientName=evil, StudyDescription=evil), BASE).decode())
    assert "img" not in checker.seen
    assert not checker.open
