"""DCMTK's dcm2json as the oracle of /metadata, on every file of the pydicom wheel.

Where they may differ, and why:

* Bulk data: dcm2json writes it inline, /metadata points at it. What the pointer leads to has to be what dcm2json wrote.
* Compressed pixel data: dcm2json refuses them, so dcmodify takes them (and padding behind them) out of its file; what
  /metadata point at has to be the value in the file.
* Specific Character Set: the JSON is UTF-8 throughout, and so say /metadata (PS3.18 F.2.1); dcm2json changes only the
  outermost, pydicom none.
* FL and FD: dcm2json prints nine digits and, for FD, may miss the last bit; /metadata hold the number that is stored.
* PN: carets at the end are kept as stored, and left out by dcm2json.
* Explicit VR UN of an element that a dictionary knows: /metadata give it its VR (PS3.5 6.2.2), dcm2json leaves UN.
* A value of odd length: dcm2json pads it.
* dcm2json cannot read some: ISO 2022 IR 87 is not in this build's iconv, one file has a nested character set under
  none, one is implicit VR that says explicit, and in two everything is explicit VR UN. There pydicom is the oracle.
"""

from __future__ import annotations

import base64
import json
import math
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests

from tests.clients import wheel
from tests.clients.needs import needs
from tests.clients.wheel import WheelFile
from tests.server import Server, dcmtk
from tests.wire.clients import TIMEOUT_S

pytestmark = needs("dcmtk")

NOT_FOR_DCMTK = {
    "charset_files/chrH31.dcm",
    "charset_files/chrH32.dcm",
    "charset_files/chrJapMulti.dcm",
    "charset_files/chrJapMultiExplicitIR6.dcm",
    "charset_files/chrSQEncoding.dcm",
    "charset_files/chrSQEncoding1.dcm",
    "test_files/J2K_pixelrep_mismatch.dcm",
    "test_files/SC_rgb_jpeg.dcm",
    "test_files/rtdose_rle.dcm",
    "test_files/rtdose_rle_1frame.dcm",
}
Element = dict[str, Any]


def test_metadata_agree_with_dcm2json(wheel_archive: Server, tmp_path: Path) -> None:
    session = requests.Session()
    found = {}
    for file in wheel.files():
        if file.name not in NOT_FOR_DCMTK:
            differences = Comparison(session, file).run(metadata(session, wheel_archive, file), oracle(file, tmp_path))
            if differences:
                found[file.name] = differences
    assert found == {}


def test_metadata_agree_with_pydicom_where_dcm2json_gives_up(wheel_archive: Server) -> None:
    session = requests.Session()
    found = {}
    for file in wheel.files():
        if file.name in NOT_FOR_DCMTK:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = json.loads(file.read().to_json(1 << 30))
            # Group lengths are retired, and neither dcm2json nor /metadata have them.
            theirs = {tag: element for tag, element in theirs.items() if not tag.endswith("0000")}
            differences = Comparison(session, file).run(metadata(session, wheel_archive, file), theirs)
            if differences:
                found[file.name] = differences
    assert found == {}


def test_dcm2json_still_gives_up_on_these(tmp_path: Path) -> None:
    for file in wheel.files():
        if file.name in NOT_FOR_DCMTK:
            with pytest.raises((AssertionError, UnicodeDecodeError)):
                oracle(file, tmp_path)


class Comparison:
    """Of one instance's metadata with what an oracle says of its file."""

    def __init__(self, session: requests.Session, file: WheelFile) -> None:
        self._session = session
        self._file = file
        self._differences: list[str] = []

    def run(self, ours: dict[str, Element], theirs: dict[str, Element]) -> list[str]:
        self._data_sets("", ours, theirs)
        return self._differences

    def _data_sets(self, where: str, ours: dict[str, Element], theirs: dict[str, Element]) -> None:
        for tag in sorted(ours.keys() | theirs.keys()):
            path = where + tag
            if path == "7FE00010" and tag not in theirs and is_compressed(self._file):
                self._expect(path, self._bulk(ours[tag]), self._file.read().PixelData)
            elif path == "FFFCFFFC" and is_compressed(self._file):
                continue
            elif tag not in ours or tag not in theirs:
                self._differences.append(f"{path}: only one has {ours.get(tag) or theirs.get(tag)}")
            else:
                self._elements(path, ours[tag], theirs[tag])

    def _elements(self, path: str, ours: Element, theirs: Element) -> None:
        vr = ours["vr"]
        if theirs["vr"] == "UN" and vr != "UN":
            self._expect(path, known(ours), base64.b64decode(theirs.get("InlineBinary", "")))
        elif vr != theirs["vr"]:
            self._differences.append(f"{path}: {ours} {theirs}")
        elif vr == "SQ":
            items, other = ours.get("Value", []), theirs.get("Value", [])
            self._expect(path, len(items), len(other))
            for number, (item, other_item) in enumerate(zip(items, other, strict=False)):
                self._data_sets(f"{path}[{number}].", item or {}, other_item or {})
        elif "BulkDataURI" in ours:
            self._expect(path, self._bulk(ours), base64.b64decode(theirs["InlineBinary"]))
        elif "InlineBinary" in ours or "InlineBinary" in theirs:
            value = base64.b64decode(ours.get("InlineBinary", ""))
            self._expect(path, value + b"\0" * (len(value) % 2), base64.b64decode(theirs.get("InlineBinary", "")))
        elif vr == "PN":
            self._expect(path, names(ours), names(theirs))
        elif vr in ("FL", "FD"):
            digits = 1e-8 if vr == "FL" else 1e-15
            values, other = ours.get("Value", []), theirs.get("Value", [])
            near = (math.isclose(a, b, rel_tol=digits) for a, b in zip(values, other, strict=False))
            if len(values) != len(other) or not all(near):
                self._differences.append(f"{path}: {values} {other}")
        elif path.endswith("00080005"):
            # Empty as it was stored: ASCII, which is UTF-8 too.
            self._expect(path, ours.get("Value", ["ISO_IR 192"]), ["ISO_IR 192"])
        else:
            self._expect(path, ours.get("Value"), theirs.get("Value"))

    def _bulk(self, element: Element) -> bytes:
        answer = self._session.get(
            element["BulkDataURI"],
            headers={"Accept": "application/octet-stream; transfer-syntax=*"},
            timeout=TIMEOUT_S,
        )
        assert answer.status_code == 200, f"{self._file.name}: {answer.status_code} {answer.text[:300]}"
        return answer.content

    def _expect(self, path: str, ours: object, theirs: object) -> None:
        if ours != theirs:
            self._differences.append(f"{path}: {str(ours)[:150]} {str(theirs)[:150]}")


def metadata(session: requests.Session, server: Server, file: WheelFile) -> dict[str, Element]:
    answer = session.get(server.dicomweb_url + file.path + "/metadata", timeout=TIMEOUT_S)
    assert answer.status_code == 200, f"{file.name}: {answer.status_code} {answer.text[:300]}"
    (found,) = answer.json()
    return dict(found)


def oracle(file: WheelFile, folder: Path) -> dict[str, Element]:
    """What dcm2json says. Raises AssertionError when it fails, UnicodeDecodeError when it does not write UTF-8."""
    path = folder / "file.dcm"
    path.write_bytes(file.data)
    if is_compressed(file):
        erased = dcmtk("dcmodify", "--no-backup", "--erase", "(7fe0,0010)", path)
        assert erased.returncode == 0, f"{file.name}: {erased.stdout}"
    run = subprocess.run(["/usr/bin/dcm2json", path], capture_output=True, timeout=60, check=False)
    assert run.returncode == 0, f"{file.name}: {run.stderr.decode(errors='replace')}"
    found: dict[str, Element] = json.loads(run.stdout)
    assert found["00080018"]["vr"] != "UN", f"{file.name}: nothing has a VR"
    return found


def is_compressed(file: WheelFile) -> bool:
    return pydicom.uid.UID(file.transfer_syntax_uid).is_encapsulated and "PixelData" in file.read()


def names(element: Element) -> list[dict[str, str]]:
    """Person names without carets at the end, and without those of which nothing is left."""
    values = [{group: text.rstrip("^") for group, text in (value or {}).items()} for value in element.get("Value", [])]
    return [value for value in values if any(value.values())]


def known(element: Element) -> bytes:
    """The bytes that an element has in little endian, from what the JSON says; its VRs here are text and US."""
    values = element.get("Value", [])
    if element["vr"] == "US":
        return b"".join(value.to_bytes(2, "little") for value in values)
    text = "\\".join(values).encode()
    return text + b" " * (len(text) % 2)
