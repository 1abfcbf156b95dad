"""A list of very many studies: one instance each, put straight into an index, without files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.headers import Population
from pacs.dicom.layout import Layout
from pacs.dicom.model import BlobRef, Caller, Header, InstanceRecord, Target
from pacs.index.sqlite import SqliteIndex

_BATCH = 500
_CT = "1.2.840.10008.5.1.4.1.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"
_WORDS = ("THORAX W CONTRAST", "ABDOMEN PELVIS", "HEAD WO CONTRAST", "KNEE LEFT", "LUMBAR SPINE", "FOLLOW-UP")


def fill(path: Path, studies: int) -> Population:
    """Fill a SQLite index; the studies are those of the returned population, by number."""
    population = Population(7, studies)
    index = SqliteIndex(path)

    def put(begin: int) -> None:
        index.put([_record(population, number) for number in range(begin, min(begin + _BATCH, studies))])

    try:
        # One makes rows while another is written.
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(put, range(0, studies, _BATCH)))
    finally:
        index.close()
    return population


def _record(population: Population, number: int) -> InstanceRecord:
    plan = population.plan(number)
    target = Target(plan.study_uid, f"2.25.1{number:09d}", f"2.25.2{number:09d}")
    values = {
        "00080016": ("UI", _CT),
        "00080018": ("UI", target.sop_uid),
        "00080020": ("DA", f"{plan.day:%Y%m%d}"),
        "00080030": ("TM", f"{7 + number % 12:02d}{number % 60:02d}00"),
        "00080050": ("SH", f"A{number:07d}"),
        "00080060": ("CS", plan.modality),
        "00081030": ("LO", f"{plan.modality} {_WORDS[number % len(_WORDS)]}"),
        "00100010": ("PN", {"Alphabetic": plan.patient_name}),
        "00100020": ("LO", plan.patient_id),
        "00100030": ("DA", "19700101"),
        "00100040": ("CS", "F"),
        "0020000D": ("UI", plan.study_uid),
        "0020000E": ("UI", target.series_uid),
        "00200011": ("IS", 1),
    }
    attributes = {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in values.items()}
    return InstanceRecord(
        Header(target, _CT, _EXPLICIT, 400, attributes, Layout(None, {})),
        BlobRef(f"list/{number}.dcm", 5000, f"sha256:{number:064x}"),
        datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
        Caller("LIST", "10.20.0.1", "dimse"),
    )
