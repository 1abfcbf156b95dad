"""raccoon-dicom's MongoDB database, read and never written: which instances there are, where, and which are deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from pacs.errors import Invalid, OutOfResources
from pacs.migrate.plan import Document

if TYPE_CHECKING:
    from pymongo.database import Database

_TIMEOUT_S = 10
_BATCH = 1000
_FIELDS = ("studyUID", "seriesUID", "instanceUID", "instancePath", "deleteStatus", "updatedAt")
_UID_TAGS = {"studyUID": "0020000D", "seriesUID": "0020000E", "instanceUID": "00080018"}


def uri_of(
    hosts: tuple[str, ...], ports: tuple[int, ...], user: str, password: str, auth_source: str, options: str
) -> str:
    """The URL of the settings MONGODB_HOSTS, _PORTS, _USER and so on, joined as raccoon does."""
    pairs = [f"{host}:{ports[i]}" if i < len(ports) else host for i, host in enumerate(hosts)]
    login = f"{quote_plus(user)}:{quote_plus(password)}@" if user and password else ""
    query = [f"authSource={quote_plus(auth_source)}"] if login and auth_source else []
    query += [options.lstrip("?&")] if options else []
    return f"mongodb://{login}{','.join(pairs)}/{'?' + '&'.join(query) if query else ''}"


def read_documents(uri: str, database: str) -> Iterator[Document]:
    """All instance documents. Raises Invalid without pymongo, for a bad URL or a database that is not raccoon's, and
    OutOfResources when the server does not answer.
    """
    try:
        from pymongo import MongoClient
        from pymongo.errors import ConfigurationError, InvalidURI, PyMongoError
    except ImportError:
        raise Invalid("reading raccoon's database needs pymongo: pip install pymongo") from None
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(
            uri, serverSelectionTimeoutMS=_TIMEOUT_S * 1000, appname="pacs migrate"
        )
        with closing(client):
            source = client[database]
            if "dicom" not in source.list_collection_names():
                names = ", ".join(name for name in client.list_database_names() if name not in ("config", "local"))
                raise Invalid(
                    f"the database {database!r} has no collection 'dicom'; databases there: {names or 'none'}",
                    "--database",
                )
            yield from _documents(source)
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise Invalid(f"--mongo: {error}", "--mongo") from error
    except PyMongoError as error:
        raise OutOfResources(f"raccoon's database cannot be read: {error}"[:400]) from error


def _documents(source: Database[dict[str, Any]]) -> Iterator[Document]:
    studies = _deleted(source, "dicomStudy", "studyUID")
    series = _deleted(source, "dicomSeries", "seriesUID")
    wanted = dict.fromkeys([*_FIELDS, *_UID_TAGS.values()], 1)
    with source["dicom"].find({}, wanted, batch_size=_BATCH) as found:
        for document in found:
            study_uid, series_uid, sop_uid = (_uid(document, name) for name in _UID_TAGS)
            deleted = _is_deleted(document) or study_uid in studies or series_uid in series
            yield Document(_path(document), study_uid, series_uid, sop_uid, _rank(document), deleted)


def _deleted(source: Database[dict[str, Any]], collection: str, name: str) -> set[str]:
    """UIDs that have documents, all of them deleted: of two for one study, one that is not counts."""
    fields = {name: 1, _UID_TAGS[name]: 1, "deleteStatus": 1}
    marked = source[collection].find({"deleteStatus": {"$exists": True}}, fields)
    deleted = {_uid(document, name) for document in marked if _is_deleted(document)}
    if deleted:
        for document in source[collection].find({}, fields):
            if not _is_deleted(document):
                deleted.discard(_uid(document, name))
    return deleted


def _is_deleted(document: dict[str, Any]) -> bool:
    status = document.get("deleteStatus")
    if isinstance(status, str):
        return status.strip().lower() not in ("", "0", "false")
    return bool(status)


def _uid(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        element = document.get(_UID_TAGS[name])
        values = element.get("Value") if isinstance(element, dict) else None
        value = values[0] if isinstance(values, list) and values else ""
    return str(value).strip(" \0")


def _path(document: dict[str, Any]) -> str:
    """Relative to the store's root; "" when there is none, or it leads out of it."""
    value = document.get("instancePath")
    if not isinstance(value, str):
        return ""
    parts = PurePosixPath(value.replace("\\", "/")).parts
    return "" if ".." in parts else "/".join(part for part in parts if part != "/")


def _rank(document: dict[str, Any]) -> float:
    """When it was written last, or else when it was made, in seconds since 1970."""
    for value in (document.get("updatedAt"), getattr(document.get("_id"), "generation_time", None)):
        if isinstance(value, datetime):
            return float(value.timestamp())
    return 0.0
