"""Worklist files, made by DCMTK's dump2dcm, and orders in DICOM JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pacs.dicom.uids import new_uid
from tests.server import dcmtk

_DUMP = """(0008,0005) CS [{charset}]
(0008,0050) SH [{accession}]
(0008,0090) PN [REF^DOC]
(0010,0010) PN [{name}]
(0010,0020) LO [{patient_id}]
(0010,0030) DA [19500101]
(0010,0040) CS [{sex}]
(0010,2000) LO [ABZESS]
(0020,000d) UI [{study}]
(0032,1032) PN [SMITH]
(0032,1060) LO [{description}]
(0032,1064) SQ
(fffe,e000) na
(0008,0100) SH [C1]
(0008,0102) SH [99LOCAL]
(0008,0104) LO [{description}]
(fffe,e00d) na
(fffe,e0dd) na
(0040,0100) SQ
(fffe,e000) na
(0008,0060) CS [{modality}]
(0032,1070) LO [BARIUMSULFAT]
(0040,0001) AE [{station}]
(0040,0002) DA [{date}]
(0040,0003) TM [{time}]
(0040,0006) PN [JOHNSON]
(0040,0007) LO [{description}]
(0040,0009) SH [{step}]
(0040,0010) SH [STN456]
(0040,0011) SH [B34F56]
(fffe,e00d) na
(fffe,e0dd) na
(0040,1001) SH [RP1]
(0040,1003) SH [LOW]
"""
_DEFAULTS = {
    "charset": "ISO_IR 100",
    "accession": "A1",
    "name": "HAYDN^FRANZ",
    "patient_id": "P1",
    "sex": "M",
    "study": "1.2.3",
    "description": "EXAM74",
    "modality": "CT",
    "station": "CT1",
    "date": "20260102",
    "time": "100000",
    "step": "SPS1",
}


def write_file(path: Path, **values: str) -> Path:
    """One .wl file, renamed into place when it is whole. values: of ``_DEFAULTS``."""
    made = {**_DEFAULTS, **values}
    dump, unfinished = path.with_suffix(".dump"), path.with_suffix(".tmp")
    dump.write_bytes(_DUMP.format_map(made).encode("utf-8" if made["charset"] == "ISO_IR 192" else "latin-1"))
    run = dcmtk("dump2dcm", dump, unfinished)
    assert run.returncode == 0, run.stdout
    dump.unlink()
    unfinished.rename(path)
    return path


def order(**values: Any) -> dict[str, Any]:
    """An order. values: by tag, of the item, or of its step below "step"; None leaves the attribute out."""
    step = {
        "00080060": _one("CS", "MR"),
        "00400001": _one("AE", "MR1"),
        "00400002": _one("DA", "20260102"),
        "00400003": _one("TM", "0930"),
        "00400007": _one("LO", "Knee"),
        "00400009": _one("SH", "S1"),
        **values.pop("step", {}),
    }
    item = {
        "00080050": _one("SH", "A1"),
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        "00100020": _one("LO", "P1"),
        "0020000D": _one("UI", new_uid()),
        "00401001": _one("SH", "R1"),
        **values,
    }
    present = {tag: element for tag, element in step.items() if element is not None}
    item["00400100"] = {"vr": "SQ", "Value": [present]}
    return {tag: element for tag, element in item.items() if element is not None}


def _one(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


def step_status(item: dict[str, Any]) -> str:
    status: str = item["00400100"]["Value"][0]["00400020"]["Value"][0]
    return status
