"""What the walks through the web page are made in: an archive at work with accounts, peers and orders, and node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import requests

from tests import builders
from tests.clients import npm, phantoms
from tests.clients.operated import operated
from tests.server import PROJECT, Server, free_port
from tests.wire.clients import StoreScp
from tests.worklists import order

NAME, PASSWORD = "admin", "correct horse"
ARTEFACTS = PROJECT / "tests" / "artefacts" / "walk"
SCRIPTS = Path(__file__).with_name("walk")
CT, VERIFICATION = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1"
_EXPLICIT, _IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
_PATIENTS = (
    "Wang^XiaoDong=王^小東",
    "Doe^Jane",
    "Müller^Jörg",
    "Yamada^Tarou=山田^太郎",
    "O'Neill^Aoife",
)
_WORDS = (
    "CT Thorax with contrast",
    "MR Knee left",
    "CR Chest PA",
    "US Abdomen",
    "CT Head",
)
_TIMEOUT_S = 900


@dataclass(frozen=True)
class Desk:
    server: Server
    receiver: StoreScp
    study: str
    series: str
    instance: str

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        """A request of the administrator, by basic authentication."""
        url = f"{self.server.dicomweb_url}/{path}"
        return requests.request(method, url, auth=(NAME, PASSWORD), timeout=60, **more)

    @property
    def plan(self) -> dict[str, Any]:
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        return {
            "url": self.server.http_url,
            "name": NAME,
            "password": PASSWORD,
            "artefacts": str(ARTEFACTS),
        }


@contextmanager
def desk(folder: Path, **settings: str) -> Iterator[Desk]:
    contexts = {CT: [_EXPLICIT, _IMPLICIT], VERIFICATION: [_IMPLICIT]}
    with StoreScp(folder / "received", contexts, "READING") as receiver:
        server = operated(folder / "archive", ADMIN_PASSWORD=PASSWORD, **settings)
        server.add_peer("READING", receiver.port)
        server.add_peer("AWAY", free_port())
        with server:
            slices = phantoms.ct_series()
            one = pydicom.dcmread(BytesIO(slices[0]))
            made = Desk(
                server,
                receiver,
                str(one.StudyInstanceUID),
                str(one.SeriesInstanceUID),
                str(one.SOPInstanceUID),
            )
            for data in [*slices, *_others()]:
                headers = {"Content-Type": "application/dicom"}
                assert made.call("POST", "studies", data=data, headers=headers).status_code == 200
            assert made.call("PUT", f"studies/{made.study}/labels/teaching").ok
            for number, words in enumerate(("Knee", "Thorax")):
                item = json.dumps(_order(number, words))
                headers = {"Content-Type": "application/dicom+json"}
                assert made.call("POST", "mwlitems", data=item, headers=headers).status_code == 201
            yield made


def run(
    script: str,
    plan: Mapping[str, Any],
    answers: Mapping[str, Callable[..., None]] | None = None,
) -> Any:
    """Findings of tests/clients/walk/<script>. answers: what it may ask for. Raises AssertionError with its trace."""
    command = ["node", str(SCRIPTS / script), str(npm.MODULES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(plan) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            said = json.loads(line)
            if "ask" not in said:
                assert "failed" not in said, said["failed"]
                return said["found"]
            name, reply = said.pop("ask"), {}
            try:
                (answers or {})[name](**said)
            except Exception as error:  # noqa: BLE001 -- the script says where it happened
                reply = {"failed": repr(error)}
            process.stdin.write(json.dumps(reply) + "\n")
            process.stdin.flush()
    raise AssertionError("the script said nothing")


def fifty(folder: Path, root: str) -> list[str]:
    """Paths of fifty files, of two studies of one patient."""
    folder.mkdir(parents=True)
    paths = []
    for number in range(50):
        study = f"{root}.{number % 2}"
        path = folder / f"image {number:02}.dcm"
        about = {
            "PatientName": f"Walk^{root}",
            "PatientID": root,
            "StudyDescription": "CT Thorax",
        }
        path.write_bytes(
            builders.ct(
                study,
                f"{study}.1",
                f"{study}.1.{number}",
                InstanceNumber=number,
                **about,
            )
        )
        paths.append(str(path))
    return paths


def _others() -> Iterator[bytes]:
    for number in range(24):
        study = f"1.2.70.{number}"
        about = {
            "SpecificCharacterSet": "ISO_IR 192",
            "PatientName": _PATIENTS[number % len(_PATIENTS)],
            "PatientID": f"P{number % len(_PATIENTS):04}",
            "PatientBirthDate": "19700101",
            "PatientSex": "F",
            "StudyDate": f"202601{number + 1:02}",
            "StudyTime": "093000",
            "AccessionNumber": f"A{number:06}",
            "StudyDescription": _WORDS[number % len(_WORDS)],
            "SeriesDescription": "Axial",
            "Modality": _WORDS[number % len(_WORDS)][:2],
        }
        yield builders.ct(study, f"{study}.1", f"{study}.1.1", rows=64, columns=64, **about)


def _order(number: int, words: str) -> dict[str, Any]:
    day = {
        "00400002": {"vr": "DA", "Value": [f"{date.today():%Y%m%d}"]},
        "00400007": {"vr": "LO", "Value": [words]},
    }
    return order(step=day | {"00400009": {"vr": "SH", "Value": [f"S{number}"]}})
