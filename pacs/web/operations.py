"""What the web server offers, as a table: behind the OpenAPI document, the capabilities and the conformance statement.

A test compares it with the router, both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pacs.dicom.model import Role, Target
from pacs.imaging.forms import DOCUMENT_TYPES, FILM_TYPES, TEXT_TYPES
from pacs.imaging.options import ANNOTATIONS, ICC_PROFILES, MAX_SIDE, MEDIA_TYPES, WINDOW_FUNCTIONS
from pacs.web.archive_zip import ZIP
from pacs.web.negotiate import DICOM, DICOM_JSON, DICOM_XML, MULTIPART, OCTET_STREAM

PROBLEM = "application/problem+json"
JSON = "application/json"
HTML = "text/html"
WADL = "application/vnd.sun.wadl+xml"
# Of the document's examples.
EXAMPLE = Target("1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.1.1", "1.2.826.0.1.3680043.8.498.1.1.1")
EXAMPLE_PATIENT = "EXAMPLE-1"

_UID = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)*$", "minLength": 1, "maxLength": 64}
_POSITIVE = {"type": "integer", "minimum": 1}


@dataclass(frozen=True, slots=True)
class Parameter:
    """place: path or query. schema: JSON Schema; example: a value that works with ``EXAMPLE``."""

    name: str
    place: str
    description: str
    schema: Mapping[str, Any]
    example: Any
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. path: below the API root, or from the server's root when ``is_outside`` it.

    answers: media types by status, () for no body; the errors that any request may meet are added to the document.
    bodies: media types of the request's body. query: names of parameters, and of path parameters by the path; they are
    ``PARAMETERS``, or the operation's ``own``. needs: the role that it takes; None: READER to read, WRITER to change.
    is_public: anybody may, whoever they are.
    """

    method: str
    path: str
    name: str
    group: str
    summary: str
    clause: str
    answers: Mapping[int, tuple[str, ...]]
    query: tuple[str, ...] = ()
    bodies: tuple[str, ...] = ()
    is_outside: bool = False
    own: tuple[Parameter, ...] = ()
    needs: Role | None = None
    is_public: bool = False

    @property
    def role(self) -> Role:
        """The least that a caller has to be."""
        if self.needs is not None:
            return self.needs
        return Role.READER if self.method in ("GET", "HEAD", "OPTIONS") else Role.WRITER

    def parameter(self, name: str) -> Parameter:
        return next((each for each in self.own if each.name == name), None) or PARAMETERS[name]


def _named(*parameters: Parameter) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in parameters}


def _path(name: str, description: str, schema: Mapping[str, Any], example: Any) -> Parameter:
    return Parameter(name, "path", description, schema, example, required=True)


def _query(
    name: str, description: str, schema: Mapping[str, Any], example: Any, *, required: bool = False
) -> Parameter:
    return Parameter(name, "query", description, schema, example, required)


_NUMBER = r"-?[0-9]+(\.[0-9]+)?"
PARAMETERS = _named(
    _path("study", "Study Instance UID", _UID, EXAMPLE.study_uid),
    _path("series", "Series Instance UID", _UID, EXAMPLE.series_uid),
    _path("instance", "SOP Instance UID", _UID, EXAMPLE.sop_uid),
    _path("patient", "Patient ID", {"type": "string", "minLength": 1, "maxLength": 64}, EXAMPLE_PATIENT),
    _path(
        "frames",
        "Frame numbers from 1: a list, or ranges",
        {"type": "string", "pattern": r"^[1-9][0-9]{0,6}(-[1-9][0-9]{0,6})?(,[1-9][0-9]{0,6})*$", "maxLength": 200},
        "1",
    ),
    _path(
        "path", "Tag path, as the metadata name it", {"type": "string", "minLength": 1, "maxLength": 200}, "7FE00010"
    ),
    _path("file", "Name of a file of the documentation", {"type": "string", "minLength": 1}, "swagger-ui.css"),
    _query("accept", "Media types, as in Accept, over which it wins (8.3.3.1)", {"type": "string"}, "*/*"),
    _query("limit", "Rows at most", _POSITIVE, 10),
    _query("offset", "Rows to leave out first", {"type": "integer", "minimum": 0}, 0),
    _query(
        "fuzzymatching", "Match person names by word and sound", {"type": "string", "enum": ["true", "false"]}, "false"
    ),
    _query("includefield", "Attributes to return too; all for all", {"type": "string"}, "StudyDescription"),
    _query(
        "search",
        "Extension: words, each of which begins a word of patient's name or ID, accession number, study date"
        " (2024, 2024-01), modality, study description or label",
        {"type": "string", "maxLength": 1000},
        "example",
    ),
    _query(
        "orderby",
        "Extension: an attribute to order by, by keyword, tag, or received for when it first came; - before it for"
        " descending. Studies: StudyDate, PatientName, PatientID, AccessionNumber, StudyDescription, ModalitiesInStudy,"
        " NumberOfStudyRelatedInstances; series: SeriesNumber",
        {"type": "string", "pattern": "^-?[A-Za-z0-9]+$"},
        "-received",
    ),
    _query(
        "count",
        "Extension: how many match in all, in the header X-Total-Count",
        {"type": "string", "enum": ["true", "false"]},
        "true",
    ),
    _query("labels", "Extension: studies that bear one of these labels, a list", {"type": "string"}, None),
    _query("quality", "Of a JPEG", {"type": "integer", "minimum": 1, "maximum": 100}, 80),
    _query(
        "window",
        f"center,width[,function]; {', '.join(WINDOW_FUNCTIONS)}",
        {"type": "string", "pattern": f"^{_NUMBER},{_NUMBER}(,[A-Za-z_-]+)?$"},
        "40,400,linear",
    ),
    _query(
        "viewport",
        "vw,vh[,sx,sy,sw,sh]; a negative sw or sh flips",
        {"type": "string", "pattern": f"^[0-9]+,[0-9]+(,{_NUMBER}(,{_NUMBER}){{0,3}})?$"},
        "64,64",
    ),
    _query("iccprofile", "Colours of a picture", {"type": "string", "enum": list(ICC_PROFILES)}, "srgb"),
    # WADO-URI
    _query("requestType", "WADO", {"type": "string", "const": "WADO"}, "WADO", required=True),
    _query("studyUID", "Study Instance UID", _UID, EXAMPLE.study_uid, required=True),
    _query("seriesUID", "Series Instance UID", _UID, EXAMPLE.series_uid, required=True),
    _query("objectUID", "SOP Instance UID", _UID, EXAMPLE.sop_uid, required=True),
    _query("contentType", "Media types in order of preference", {"type": "string"}, "image/png"),
    _query("charset", "Character sets of a text", {"type": "string"}, "utf-8"),
    _query("anonymize", "yes is answered 406", {"type": "string", "enum": ["yes", "no"]}, "no"),
    _query("annotation", f"{' or '.join(ANNOTATIONS)}, or both", {"type": "string"}, "patient"),
    _query("rows", "Height at most", {"type": "integer", "minimum": 1, "maximum": MAX_SIDE}, 32),
    _query("columns", "Width at most", {"type": "integer", "minimum": 1, "maximum": MAX_SIDE}, 32),
    _query("region", "xmin,ymin,xmax,ymax, each 0 to 1", {"type": "string"}, "0.25,0.25,0.75,0.75"),
    _query("windowCenter", "Together with windowWidth", {"type": "number"}, 40),
    _query("windowWidth", "Together with windowCenter", {"type": "number", "minimum": 1}, 400),
    _query("frameNumber", "From 1", _POSITIVE, 1),
    _query("imageQuality", "Of a JPEG", {"type": "integer", "minimum": 1, "maximum": 100}, 80),
    _query("presentationUID", "SOP Instance UID of a presentation state; answered 404 or 406", _UID, None),
    _query("presentationSeriesUID", "Together with presentationUID", _UID, None),
    _query("transferSyntax", "Of an application/dicom answer", {"type": "string"}, "1.2.840.10008.1.2.1"),
)
_PICTURE = ("accept", "window", "viewport", "quality", "annotation", "iccprofile")
# What an instance that is no image can be shown as.
_SHOWN = (*MEDIA_TYPES, *TEXT_TYPES, *DOCUMENT_TYPES, *FILM_TYPES)
_SEARCH = ("limit", "offset", "fuzzymatching", "includefield", "accept")
_EXTENSION = ("orderby", "count", "labels")
_WADO_URI = (
    *("requestType", "studyUID", "seriesUID", "objectUID", "contentType", "charset", "anonymize", "annotation", "rows"),
    *("columns", "region", "windowCenter", "windowWidth", "frameNumber", "imageQuality", "presentationUID"),
    *("presentationSeriesUID", "transferSyntax"),
)

_STUDY, _SERIES = "/studies/{study}", "/studies/{study}/series/{series}"
_INSTANCE = f"{_SERIES}/instances/{{instance}}"
_LEVELS = (("Study", _STUDY), ("Series", _SERIES), ("Instance", _INSTANCE))
_NOTHING: tuple[str, ...] = ()
_MISSING = {404: (PROBLEM,), 410: (PROBLEM,)}
_UNMADE = {406: (PROBLEM,), 413: (PROBLEM,)}


def _one_body(*media_types: str) -> dict[int, tuple[str, ...]]:
    """Of a resource with validators and ranges."""
    return {200: media_types, 206: media_types, 304: _NOTHING, 416: _NOTHING, **_UNMADE, **_MISSING}


_WADO_URI_ANSWERS = _one_body(DICOM, *_SHOWN)


def _searches() -> list[Operation]:
    answers = {200: (DICOM_JSON, JSON, MULTIPART), 204: _NOTHING, 304: _NOTHING, 406: (PROBLEM,)}
    paths = {
        "/patients": "Patients",
        "/studies": "Studies",
        "/series": "Series",
        "/instances": "Instances",
        "/patients/{patient}/studies": "PatientStudies",
        f"{_STUDY}/series": "StudySeries",
        f"{_STUDY}/instances": "StudyInstances",
        "/series/{series}/instances": "SeriesInstances",
        f"{_SERIES}/instances": "StudySeriesInstances",
    }
    return [
        Operation(
            "GET",
            path,
            f"searchFor{name}",
            "QIDO-RS",
            f"Search: {path[1:]}",
            "10.6",
            answers,
            (*_SEARCH, "attributes", *_EXTENSION, *(("search",) if path.endswith("/studies") else ())),
        )
        for path, name in paths.items()
    ]


def _stores() -> list[Operation]:
    answers = {
        200: (DICOM_JSON, JSON, DICOM_XML),
        202: (DICOM_JSON, JSON, DICOM_XML),
        409: (DICOM_JSON, JSON, DICOM_XML, PROBLEM),
        **dict.fromkeys((406, 408, 413, 415), (PROBLEM,)),
    }
    bodies = (MULTIPART, DICOM, DICOM_JSON, DICOM_XML)
    return [
        Operation("POST", "/studies", "storeInstances", "STOW-RS", "Store instances", "10.5", answers, (), bodies),
        Operation("POST", _STUDY, "storeStudy", "STOW-RS", "Store into a study", "10.5", answers, (), bodies),
    ]


def _retrieves() -> list[Operation]:
    found = []
    for name, path in _LEVELS:
        files = {**_one_body(MULTIPART, DICOM, ZIP), 206: (MULTIPART, DICOM, ZIP)}
        metadata = _one_body(DICOM_JSON, JSON, MULTIPART, *([DICOM_XML] if path == _INSTANCE else []))
        found += [
            Operation("GET", path, f"retrieve{name}", "WADO-RS", f"{name}: files", "10.4.1.1.1", files, ("accept",)),
            Operation(
                "GET",
                f"{path}/metadata",
                f"retrieve{name}Metadata",
                "WADO-RS",
                f"{name}: metadata",
                "10.4.1.1.2",
                metadata,
                ("accept",),
            ),
            Operation(
                "GET",
                f"{path}/pixeldata",
                f"retrieve{name}PixelData",
                "WADO-RS",
                f"{name}: pixel data",
                "10.4.1.1.6",
                {**_one_body(MULTIPART), 206: (MULTIPART,)},
                ("accept",),
            ),
            Operation(
                "GET",
                f"{path}/bulkdata",
                f"retrieve{name}Bulkdata",
                "WADO-RS",
                f"{name}: all bulk data",
                "10.4.1.1.5",
                _one_body(MULTIPART),
                ("accept",),
            ),
        ]
    for name, path in (*_LEVELS, ("Frames", f"{_INSTANCE}/frames/{{frames}}")):
        pictures = _one_body(*_SHOWN, MULTIPART)
        thumbnail = _one_body(*MEDIA_TYPES)
        for kind, answers in (("rendered", pictures), ("thumbnail", thumbnail)):
            found.append(
                Operation(
                    "GET",
                    f"{path}/{kind}",
                    f"retrieve{name}{kind.capitalize()}",
                    "WADO-RS",
                    f"{name}: {kind}",
                    "10.4.1.1.3" if kind == "rendered" else "10.4.1.1.9",
                    answers,
                    _PICTURE,
                )
            )
    codestreams = ("image/jpeg", "image/jls", "image/jp2", "image/jphc", "image/jpx", "image/jxl", "image/dicom-rle")
    frames = _one_body(MULTIPART, OCTET_STREAM, *codestreams, "video/mp4", "video/mpeg2", "video/H265")
    bulk = _one_body(MULTIPART, OCTET_STREAM)
    found += [
        Operation(
            "GET",
            f"{_INSTANCE}/frames/{{frames}}",
            "retrieveFrames",
            "WADO-RS",
            "Frames",
            "10.4.1.1.6",
            frames,
            ("accept",),
        ),
        Operation(
            "GET",
            f"{_INSTANCE}/bulkdata/{{path}}",
            "retrieveBulkdata",
            "WADO-RS",
            "Bulk data",
            "10.4.1.1.5",
            bulk,
            ("accept",),
        ),
    ]
    return found


def _deletes() -> list[Operation]:
    return [
        Operation(
            "DELETE", path, f"delete{name}", "Delete", f"Delete: {name.lower()}", "8.5", {204: _NOTHING, **_MISSING}
        )
        for name, path in _LEVELS
    ]


def _others() -> list[Operation]:
    capabilities = {200: (WADL, JSON), 406: (PROBLEM,)}
    plain = {200: (JSON,)}
    root = {200: (JSON, HTML), 406: (PROBLEM,)}
    ready = {**plain, 503: (JSON,)}
    files = {200: ("text/css", "text/javascript", "text/plain", "image/png"), 304: _NOTHING, 404: (PROBLEM,)}
    about = "Server"
    found = [
        Operation("OPTIONS", "", "retrieveCapabilities", about, "Capabilities", "8.9", capabilities, ("accept",)),
        Operation("GET", "/capabilities", "getCapabilities", about, "Capabilities", "8.9", capabilities, ("accept",)),
        Operation("GET", "/openapi.json", "getOpenApi", about, "This document", "", plain),
        Operation("GET", "/docs", "getDocs", about, "This document for people", "", {200: (HTML,)}),
        Operation("GET", "/docs/{file}", "getDocsFile", about, "Files of the documentation", "", files),
    ]
    outside = [
        Operation("GET", "/", "getRoot", about, "The web page, or where to go", "", root, is_public=True),
        Operation("OPTIONS", "/", "retrieveAllCapabilities", about, "Capabilities", "8.9", capabilities, ("accept",)),
        Operation("GET", "/health/live", "isAlive", about, "Whether it lives", "", plain, is_public=True),
        Operation("GET", "/health/ready", "isReady", about, "Whether it is ready", "", ready, is_public=True),
    ]
    uri = Operation("GET", "/wado", "wadoUri", "WADO-URI", "One instance by query", "9", _WADO_URI_ANSWERS, _WADO_URI)
    found.append(uri)
    outside.append(replace(uri, name="wadoUriAtRoot"))
    return found + [replace(operation, is_outside=True) for operation in outside]


def operations(*, with_delete: bool) -> tuple[Operation, ...]:
    """All that is offered, but for what services add (``additions``)."""
    deletes = _deletes() if with_delete else []
    return (*_searches(), *_stores(), *_retrieves(), *deletes, *_others())
