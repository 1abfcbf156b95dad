"""What the client accepts against what can be made (PS3.18 8.7, RFC 9110 12.5.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pacs.errors import Invalid, NotAcceptable

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
MULTIPART = "multipart/related"
DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
OCTET_STREAM = "application/octet-stream"

# What clients call types that PS3.18 has renamed since, or never had.
_ALIASES = {
    "image/x-jls": "image/jls",
    "image/jpeg-ls": "image/jls",
    "image/x-dicom-rle": "image/dicom-rle",
    "image/dicom+rle": "image/dicom-rle",
    "image/dicom+jpeg": "image/jpeg",
    "image/dicom+jp2": "image/jp2",
    "image/dicom+jpeg-jpx": "image/jp2",
    "image/jpg": "image/jpeg",
    "image/htj2k": "image/jphc",
    "image/jhc": "image/jphc",
}


_UTF_8 = ("utf-8", "utf8", "unicode-1-1-utf-8", "iso_ir 192")


@dataclass(frozen=True, slots=True)
class MediaType:
    """One media type or range. name: lower case; parameters: lower case names, quotes removed; q: 0 to 1."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    q: float = 1.0

    @property
    def content(self) -> str:
        """The type of the parts of a multipart/related, otherwise the type itself."""
        name = self.parameters.get("type", "*/*").lower() if self.name == MULTIPART else self.name
        return _ALIASES.get(name, name)


@dataclass(frozen=True, slots=True)
class Offer:
    """One form in which a resource can be sent. transfer_syntax_uid "": the media type has none."""

    media_type: str
    transfer_syntax_uid: str = ""
    multipart: bool = False

    def __str__(self) -> str:
        parameter = f"; transfer-syntax={self.transfer_syntax_uid}" if self.transfer_syntax_uid else ""
        return f'{MULTIPART}; type="{self.media_type}"{parameter}' if self.multipart else self.media_type + parameter


def accepted(header_values: Iterable[str], query_values: Iterable[str] = ()) -> tuple[MediaType, ...]:
    """The ranges of the Accept header, or of the ``accept`` query parameter, which wins (PS3.18 8.3.3.1).

    None, or nothing that can be read, means ``*/*``: clients that send rubbish here want an answer.
    """
    found: list[MediaType] = []
    for text in list(query_values) or list(header_values):
        for item in split_outside_quotes(text, ","):
            try:
                found.append(parse_media_type(item))
            except Invalid:
                continue
    return tuple(found) or (MediaType("*/*"),)


def check_charset(query_values: Iterable[str]) -> None:
    """Raises NotAcceptable when the ``charset`` query parameter (PS3.18 8.3.3.2) leaves out UTF-8, all that we speak.

    The Accept-Charset header is not looked at, as RFC 9110 12.5.2 advises.
    """
    best: dict[str, float] = {}
    for item in (item for text in query_values for item in split_outside_quotes(text, ",")):
        name, *parameters = (piece.strip().lower() for piece in item.split(";"))
        q = next((text[2:].strip() for text in parameters if text.startswith("q=")), "1")
        best["utf-8" if name in _UTF_8 else name] = float(q) if q.replace(".", "", 1).isdigit() else 1.0
    if best and best.get("utf-8", best.get("*", 0.0)) <= 0:
        raise NotAcceptable("Text is sent in UTF-8 only", ("utf-8",))


def parse_media_type(text: str) -> MediaType:
    """Parse ``type/subtype; name=value; name="va;lue"``. Raises Invalid when there is no type/subtype."""
    name, *rest = split_outside_quotes(text, ";") or [""]
    name = name.lower()
    main, slash, sub = name.partition("/")
    if name == "*":
        name = "*/*"
    elif not (main and slash and sub) or " " in name:
        raise Invalid(f"Not a media type: {text[:100]!r}", "Content-Type")
    parameters: dict[str, str] = {}
    q = 1.0
    for item in rest:
        key, equals, value = item.partition("=")
        key, value = key.strip().lower(), _unquoted(value.strip())
        if key == "q" and equals:
            try:
                q = min(1.0, max(0.0, float(value)))
            except ValueError:
                q = 1.0
        elif key and equals:
            parameters.setdefault(key, value)
    return MediaType(name, parameters, q)


def choose(ranges: Sequence[MediaType], offers: Sequence[Offer], *, client_order: bool = False) -> Offer:
    """The offer that the client likes best; among equals the earlier offer, or what the client names first.

    Raises NotAcceptable naming the offers when none will do.
    """
    ranked = []
    for position, offer in enumerate(offers):
        q, listed = quality(ranges, offer)
        if q > 0:
            ranked.append((-q, listed if client_order else 0, position))
    if not ranked:
        available = tuple(dict.fromkeys(str(offer) for offer in offers))
        raise none_acceptable(available)
    return offers[min(ranked)[2]]


def none_acceptable(available: tuple[str, ...]) -> NotAcceptable:
    """The error that names what there is."""
    listed = ", ".join(available)
    return NotAcceptable(f"None of the accepted media types can be sent. There is: {listed}", available)


def quality(ranges: Sequence[MediaType], offer: Offer) -> tuple[float, int]:
    """(q of the most specific range that covers the offer, its place in the list); q 0 when none does."""
    best = (-1, 0.0, 0)
    for place, media in enumerate(ranges):
        specificity = _covers(media, offer)
        if specificity > best[0]:
            best = (specificity, media.q, place)
    return best[1], best[2]


def split_outside_quotes(text: str, separator: str) -> list[str]:
    """Split at ``separator`` where it is not within double quotes; pieces are stripped, empty ones left out."""
    if '"' not in text:
        return [piece.strip() for piece in text.split(separator) if piece.strip()]
    pieces, start, quoted, position = [], 0, False, 0
    while position < len(text):
        character = text[position]
        if quoted and character == "\\":
            position += 1
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            pieces.append(text[start:position])
            start = position + 1
        position += 1
    pieces.append(text[start:])
    return [piece.strip() for piece in pieces if piece.strip()]


def _covers(media: MediaType, offer: Offer) -> int:
    """How specifically a range covers an offer, -1 when it does not."""
    if media.name == "*/*":
        specificity = 0
    elif media.name in (MULTIPART, "multipart/*", "multipart/mixed"):
        if not offer.multipart:
            return -1
        specificity = _covers_type(media.content if media.name == MULTIPART else "*/*", offer.media_type)
    else:
        specificity = -1 if offer.multipart else _covers_type(media.content, offer.media_type)
    if specificity < 0:
        return -1
    wanted = media.parameters.get("transfer-syntax")
    if wanted is None:
        if specificity < 2 or not offer.transfer_syntax_uid or not media.content.startswith("application/"):
            return specificity
        # PS3.18 8.7.3.3: application/dicom and uncompressed octet-stream mean Explicit VR Little Endian.
        return specificity if offer.transfer_syntax_uid == EXPLICIT_LITTLE_ENDIAN else -1
    if wanted == "*" or not offer.transfer_syntax_uid:
        return specificity + 3
    listed = [uid.strip() for uid in wanted.replace("\\", ",").split(",")]
    return specificity + 6 if offer.transfer_syntax_uid in listed else -1


def _covers_type(pattern: str, name: str) -> int:
    if pattern == "*/*" or pattern == "*":
        return 0
    if pattern.endswith("/*") or pattern.endswith("/"):
        return 1 if name.startswith(pattern.rstrip("*")) else -1
    return 2 if pattern == name.lower() else -1


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        inner = value[1:-1]
        return inner.replace('\\"', '"').replace("\\\\", "\\") if "\\" in inner else inner
    return value
