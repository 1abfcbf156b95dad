"""A raccoon-dicom installation as one is found in the field: files, what it made from them, and its database.

``Raccoon`` writes what raccoon writes, as far as a migration can see it: the path of a file, the JPEG, metadata and
bulk data beside it, and the documents with DA as Date, TM as Decimal128 and IS as text. Its mistakes too: files that
overwrite each other, two documents for one study, documents whose file is gone.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymongo
from bson.decimal128 import Decimal128

from pacs.dicom.header import read_header

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
BEGIN = datetime(2023, 5, 4, 10, 0, tzinfo=UTC)


def short_hash(text: str) -> str:
    """raccoon's folder name of a UID: Java's string hash in base 61 with a Z before a negative one."""
    value = 0
    for unit in text:
        value = (value * 31 + ord(unit)) & 0xFFFFFFFF
    signed = value - (1 << 32) if value >= 1 << 31 else value
    rest, digits = abs(signed), ""
    while rest:
        rest, digit = divmod(rest, 61)
        digits = _DIGITS[digit] + digits
    return ("Z" if signed < 0 else "") + (digits or "0")


class Raccoon:
    """root: its DICOM_STORE_ROOTPATH. Every ``store`` is one minute later than the one before."""

    def __init__(self, root: Path, uri: str, database: str = "raccoon-dicom") -> None:
        self.root = root
        self.uri = uri
        self.database = database
        self.client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri)
        self.documents = self.client[database]
        self.now = BEGIN
        for name in ("dicom", "dicomStudy", "dicomSeries", "patient", "dicomBulkData", "syncFHIRLog"):
            if name not in self.documents.list_collection_names():
                self.documents.create_collection(name)

    def close(self) -> None:
        self.client.close()

    def store(self, data: bytes, name: str = "", *, in_month: str = "2023/05", again: bool = False) -> Path:
        """As STOW-RS did; name: the client's file name. again: a race, in which documents were made once more."""
        self.now += timedelta(minutes=1)
        spool = self.root / "tmp.dcm"
        self.root.mkdir(parents=True, exist_ok=True)
        spool.write_bytes(data)
        header = read_header(spool, derive_uids=True)
        study, series, sop = header.target.study_uid, header.target.series_uid or "", header.target.sop_uid or ""
        folder = Path("files", in_month, short_hash(study), short_hash(series))
        path = folder / (name or f"{sop}.dcm")
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)
        spool.unlink()
        self._write_byproducts(path, sop, header.attributes)
        self.write_documents(header.attributes, path, study, series, sop, again=again)
        return self.root / path

    def store_by_helper(self, data: bytes, key: str) -> Path:
        """A file that the DIMSE helper left by its own pattern; no document names it."""
        path = self.root / "DICOM" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def write_documents(
        self, attributes: dict[str, Any], path: Path, study: str, series: str, sop: str, *, again: bool = False
    ) -> None:
        """Upserts without a unique index, as raccoon's."""
        own = {tag: _bson(element) for tag, element in attributes.items()}
        common = {"studyUID": study, "studyPath": path.parent.parent.as_posix(), "updatedAt": self.now}
        in_series = {**common, "seriesUID": series, "seriesPath": path.parent.as_posix()}
        patient_id = (attributes.get("00100020", {}).get("Value") or [""])[0]
        instance = {
            **own,
            **in_series,
            "instanceUID": sop,
            "patientID": patient_id,
            "instancePath": path.as_posix(),
            "createdAt": self.now,
        }
        for collection, key, document in (
            ("patient", {"patientID": patient_id}, {"patientID": patient_id, "00100020": own.get("00100020")}),
            ("dicomStudy", {"studyUID": study}, {**common, **_some(own, "0008", "0010")}),
            ("dicomSeries", {"studyUID": study, "seriesUID": series}, {**in_series, **_some(own, "0020")}),
            ("dicom", {"studyUID": study, "seriesUID": series, "instanceUID": sop}, instance),
        ):
            if again:
                self.documents[collection].insert_one({**key, **document})
            else:
                self.documents[collection].update_one(key, {"$set": document}, upsert=True)

    def delete_study(self, study: str) -> None:
        """Soft delete of the later versions."""
        for collection in ("dicom", "dicomSeries", "dicomStudy"):
            self.documents[collection].update_many({"studyUID": study}, {"$set": {"deleteStatus": 1}})

    def dump(self) -> dict[str, list[dict[str, Any]]]:
        """Everything in the database, to see that nothing was written to it."""
        return {
            name: list(self.documents[name].find().sort("_id", 1))
            for name in sorted(self.documents.list_collection_names())
        }

    def env(self, project: Path) -> str:
        """A .env as raccoon has it, with every kind of quotes."""
        hosts, ports = zip(*(f"{host}:{port}".split(":")[:2] for host, port in self.client.nodes), strict=True)
        return f"""\
# MongoDB
MONGODB_NAME="{self.database}"
MONGODB_HOSTS={json.dumps(list(hosts))}
MONGODB_PORTS={json.dumps([int(port) for port in ports])}
MONGODB_USER=""
MONGODB_PASSWORD=""
MONGODB_AUTH_SOURCE="admin"
MONGODB_IS_SHARDING_MODE=false

# Server
SERVER_PORT=8081
SERVER_SESSION_SECRET_KEY="secret-key"

# DICOM web
DICOM_STORE_ROOTPATH="{self.root}" # files
DICOMWEB_HOST="{{host}}"
DICOMWEB_PORT=8081
DICOMWEB_API="dicom-web"

# DIMSE
ENABLE_DIMSE=true
DCM4CHE_QRSCP_COMMAND=`[
    "-b",
    "RACCOONQRSCP:11112",
    "--dicomdir",
    "{project}/dicom/DICOMDIR",
    "--filepath",
    "DICOM/{{0020000D,hash}}/{{0020000E,hash}}/{{00080018,hash}}.dcm",
    "--all-storage",
    "--ae-config",
    "{{project}}/config/ae.properties",
    "--raccoon",
    "{{project}}/config/raccoon.json"
]`

# FHIR
SYCN_TO_FHIR_SERVER=false
FHIRSERVER_BASE_URL="http://127.0.0.1:8088/fhir"
"""

    def _write_byproducts(self, path: Path, sop: str, attributes: dict[str, Any]) -> None:
        beside = (self.root / path).parent
        (beside / f"{sop}.metadata.json").write_text(json.dumps(attributes))
        (beside / f"{path.stem}.0.jpg").write_bytes(b"\xff\xd8\xff\xe0JFIF")
        bulk = self.root / "files" / "bulkData" / short_hash(sop)
        bulk.mkdir(parents=True, exist_ok=True)
        (bulk / "7FE00010.Value.0.raw").write_bytes(bytes(64))
        self.documents["dicomBulkData"].insert_one(
            {"instanceUID": sop, "filename": bulk.relative_to(self.root).as_posix(), "binaryValuePath": "7FE00010"}
        )


def _bson(element: dict[str, Any]) -> dict[str, Any]:
    """DICOM JSON as raccoon keeps it."""
    kinds = {"DA": _date, "TM": lambda value: Decimal128(str(value or 0)), "IS": str, "DS": str}
    values = element.get("Value")
    if not values or element["vr"] not in kinds:
        return dict(element)
    return {**element, "Value": [kinds[element["vr"]](value) for value in values]}


def _date(value: str) -> datetime:
    return datetime.strptime(value, "%Y%m%d").replace(tzinfo=UTC)


def _some(attributes: dict[str, Any], *groups: str) -> dict[str, Any]:
    return {tag: element for tag, element in attributes.items() if tag.startswith(groups)}
