"""What each kind of instance can be shown as (PS3.18 8.7.4): a picture, a film, a text, or its own document."""

from __future__ import annotations

from dataclasses import dataclass

from pacs.dicom import transfer_syntax
from pacs.dicom.layout import Layout
from pacs.dicom.model import Attributes
from pacs.imaging.options import MEDIA_TYPES
from pacs.imaging.source import first

TEXT_TYPES = ("text/html", "text/plain")
DOCUMENT = "00420011"  # Encapsulated Document

_CONTENT_SEQUENCE, _VALUE_TYPE = "0040A730", "0040A040"
_WAVEFORM_SEQUENCE, _CONTOURS = "54000100", "30060039"
_DOCUMENT_TYPE = "00420012"

# A document keeps the type that it says only when it is one of these: it is sent to browsers, under our own address.
_DOCUMENT_TYPES = {
    "application/pdf": ("application/pdf", "PDF"),
    "text/xml": ("text/xml", "CDA"),
    "application/xml": ("text/xml", "CDA"),
    "application/hl7-cda+xml": ("text/xml", "CDA"),
    "model/stl": ("model/stl", "STL"),
    "application/sla": ("model/stl", "STL"),
    "application/vnd.ms-pki.stl": ("model/stl", "STL"),
    "model/obj": ("model/obj", "OBJ"),
    "model/mtl": ("model/mtl", "MTL"),
}
DOCUMENT_TYPES = tuple(dict.fromkeys(media_type for media_type, _ in _DOCUMENT_TYPES.values()))
FILM_TYPES = ("video/mp4", "video/mp2t", "video/mpeg", "video/mpeg2", "video/H264", "video/H265")


@dataclass(frozen=True, slots=True)
class Form:
    """kind: image, video, waveform, contours, report, document or none. media_types: best first; none for none.

    label: what a picture that stands for it says; "" when it has a picture of its own.
    """

    kind: str
    media_types: tuple[str, ...] = ()
    label: str = ""

    @property
    def is_picture(self) -> bool:
        """Whether it is drawn, by ``show.picture``."""
        return self.kind in ("image", "waveform", "contours")


IMAGE = Form("image", MEDIA_TYPES)
# Parts of it, such as the type of a document, may be unknown while it can be shown that there is something.
NONE = Form("none")


def of_video(transfer_syntax_uid: str, first_bytes: bytes) -> Form:
    """Of an instance whose pixel data are a film. first_bytes: 8 or more of it."""
    of_syntax = transfer_syntax.find(transfer_syntax_uid).media_type
    return Form("video", (_video_type(of_syntax, first_bytes),), "VIDEO")


def of_attributes(attributes: Attributes, layout: Layout) -> Form:
    """Of an instance without pixel data."""
    if DOCUMENT in layout.bulk or "InlineBinary" in attributes.get(DOCUMENT, {}):
        said = str(first(attributes, _DOCUMENT_TYPE, "")).split(";")[0].strip().lower()
        media_type, label = _DOCUMENT_TYPES.get(said, ("", ""))
        return Form("document", (media_type,), label) if media_type else Form("none", label="DOC")
    if _has_items(attributes, _WAVEFORM_SEQUENCE):
        return Form("waveform", MEDIA_TYPES)
    if _has_items(attributes, _CONTOURS):
        return Form("contours", MEDIA_TYPES)
    if _has_items(attributes, _CONTENT_SEQUENCE) or first(attributes, _VALUE_TYPE) == "CONTAINER":
        return Form("report", TEXT_TYPES, "KO" if first(attributes, "00080060") == "KO" else "SR")
    return NONE


def _has_items(attributes: Attributes, tag: str) -> bool:
    return bool(attributes.get(tag, {}).get("Value"))


def _video_type(of_syntax: str, first_bytes: bytes) -> str:
    """The container that the stream really is in (PS3.5 8.2.5 to 8.2.9 leave a choice), else the syntax's own type."""
    if first_bytes[4:8] == b"ftyp":
        return "video/mp4"
    if first_bytes[:1] == b"\x47":
        return "video/mp2t"
    if first_bytes[:4] == b"\0\0\1\xba" or of_syntax == "video/mpeg2":
        return "video/mpeg"
    if first_bytes[:3] == b"\0\0\1" or first_bytes[:4] == b"\0\0\0\1":
        return "video/H265" if of_syntax == "video/H265" else "video/H264"
    return of_syntax
