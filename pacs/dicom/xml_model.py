"""The Native DICOM Model (PS3.19 A.1): DICOM JSON ↔ XML, nesting of any depth without recursion.

What XML 1.0 has no way to write, control characters within text, becomes U+FFFD. The reader takes a document with or
without the namespace. One with a DOCTYPE is refused before anything in it is looked at, so that there are no entities
to expand and nothing to fetch; what it holds is limited in depth and number.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping
from functools import lru_cache
from typing import Any, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from pacs.dicom.charset import DEFAULT
from pacs.dicom.dictionary import pydicom_dictionary
from pacs.dicom.json_model import BULK_VRS, decimal, integer, value_types
from pacs.dicom.model import Attributes
from pacs.errors import Unreadable

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
MAX_DEPTH = 320  # of sequences, as in files
MAX_ELEMENTS = 2_000_000  # of XML

_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PLAIN = re.compile(r"[\x20-%'-;=?-~]*")  # printable ASCII without & < >
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_VRS = frozenset(vr for vr in value_types(DEFAULT, False) if isinstance(vr, str))
_INTEGERS = frozenset({"SL", "SS", "SV", "UL", "US", "UV"})
# What is no number, in DICOM JSON and as XML Schema's double.
_TO_XML = {"Infinity": "INF", "-Infinity": "-INF", "NaN": "NaN"}
_TO_JSON = {"inf": "Infinity", "infinity": "Infinity", "-inf": "-Infinity", "-infinity": "-Infinity", "nan": "NaN"}
_HEAD = f'<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">\n'

_Pieces = Generator["str | _Pieces", None, None]


def to_xml(attributes: Attributes, bulk_base: str = "") -> bytes:
    """One document, UTF-8. bulk_base: is put before each BulkDataURI."""
    parts = [_HEAD]
    # Generators give text, or another generator whose text comes next: a stack instead of recursion.
    stack = [_data_set(attributes, bulk_base)]
    while stack:
        piece = next(stack[-1], None)
        if piece is None:
            stack.pop()
        elif isinstance(piece, str):
            parts.append(piece)
        else:
            stack.append(piece)
    parts.append("</NativeDicomModel>\n")
    return "".join(parts).encode()


def from_xml(document: bytes) -> dict[str, Any]:
    """The data set of one document as DICOM JSON, in ascending tag order.

    Private attributes get the block of their creator, a free one when no element reserves it. Raises Unreadable.
    """
    return _Reader().read(document)


def _data_set(attributes: Attributes, bulk_base: str) -> _Pieces:
    creators = _creators(attributes)
    for tag in attributes:
        element = attributes[tag]
        vr = element["vr"]
        yield f'<DicomAttribute {_name(tag, creators)} vr="{vr}"{_keyword(tag)}>\n'
        if vr == "SQ":
            yield _items(element.get("Value") or (), bulk_base)
        elif "InlineBinary" in element:
            yield f"<InlineBinary>{element['InlineBinary']}</InlineBinary>\n"
        elif "BulkDataURI" in element:
            yield f"<BulkData uri={quoteattr(bulk_base + element['BulkDataURI'])}/>\n"
        else:
            yield "".join(_value(vr, number, value) for number, value in enumerate(element.get("Value") or (), 1))
        yield "</DicomAttribute>\n"


def _items(items: Iterable[Attributes], bulk_base: str) -> _Pieces:
    for number, item in enumerate(items, 1):
        yield f'<Item number="{number}">\n'
        yield _data_set(item or {}, bulk_base)
        yield "</Item>\n"


def _value(vr: str, number: int, value: Any) -> str:
    if vr == "PN":
        return _person_name(number, value or {})
    if value is None:
        return f'<Value number="{number}"/>\n'
    if vr in ("FL", "FD"):
        value = _TO_XML.get(value, value)
    return f'<Value number="{number}">{_text(str(value))}</Value>\n'


def _person_name(number: int, name: Any) -> str:
    groups = name if isinstance(name, Mapping) else {"Alphabetic": str(name)}
    parts = [f'<PersonName number="{number}">\n']
    for group in _GROUPS:
        if groups.get(group):
            components = groups[group].split("^", len(_COMPONENTS) - 1)
            last = len(components) - 1
            inner = "".join(
                f"<{_COMPONENTS[place]}>{_text(text)}</{_COMPONENTS[place]}>"
                for place, text in enumerate(components)
                if text or place == last > 0  # the last one even when it is empty: "Doe^" is not "Doe"
            )
            parts.append(f"<{group}>{inner}</{group}>\n")
    return "".join(parts) + "</PersonName>\n"


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    # A bare carriage return would be read back as a line feed.
    return escape(_NOT_XML.sub("\ufffd", text), {"\r": "&#13;"})


def _creators(attributes: Attributes) -> dict[str, str]:
    """Block "GGGGBB" → its creator, of blocks whose creator reserved no other in the group."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    for tag in attributes:
        if tag[3] in "13579BDF" and tag[4:6] == "00" and tag[6:] >= "10":
            values = attributes[tag].get("Value") or [None]
            creator = str(values[0] or "").strip(" \0")
            if creator and _PLAIN.fullmatch(creator) and (tag[:4], creator) not in seen:
                seen.add((tag[:4], creator))
                found[tag[:4] + tag[6:]] = creator
    return found


def _name(tag: str, creators: Mapping[str, str]) -> str:
    creator = creators.get(tag[:6]) if tag[3] in "13579BDF" else None
    if creator is None:
        return f'tag="{tag}"'
    return f'tag="{tag[:4]}00{tag[6:]}" privateCreator={quoteattr(creator)}'


@lru_cache(maxsize=8192)
def _keyword(tag: str) -> str:
    keyword = pydicom_dictionary().keyword_for_tag(int(tag, 16)) if tag[3] not in "13579BDF" else ""
    return f' keyword="{keyword}"' if keyword else ""


class _Reader:
    """One document. Its state: the data sets that are open, the attribute in the innermost, and the text so far."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.data_sets: list[dict[str, Any]] = []
        self.elements: list[tuple[str, dict[str, Any]]] = []  # the attribute that is open, per data set
        self.waiting: list[list[tuple[str, str, dict[str, Any]]]] = []  # private ones without their block, per data set
        self.names: list[str] = []
        self.text: list[str] | None = None
        self.number = 0
        self.name: dict[str, list[str]] = {}
        self.group = ""
        self.count = 0
        self.result: dict[str, Any] | None = None

    def read(self, document: bytes) -> dict[str, Any]:
        parser = self.parser
        parser.buffer_text = True
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.characters
        parser.StartDoctypeDeclHandler = self.doctype
        try:
            parser.Parse(document, True)
        except expat.ExpatError as error:
            raise Unreadable(f"The metadata are not well-formed XML (line {error.lineno})") from error
        except (LookupError, ValueError) as error:  # an encoding that nobody knows
            raise Unreadable("The metadata are XML in an unknown encoding") from error
        if self.result is None:
            self.fail("there is no NativeDicomModel")
        return self.result

    def fail(self, why: str) -> NoReturn:
        raise Unreadable(f"The metadata are not of the Native DICOM Model: {why}")

    def doctype(self, *_: Any) -> None:
        self.fail("a DOCTYPE is not allowed")

    def characters(self, text: str) -> None:
        if self.text is not None:
            self.text.append(text)

    def start(self, qualified: str, attributes: dict[str, str]) -> None:
        name = qualified.rpartition(":")[2]
        self.count += 1
        if self.count > MAX_ELEMENTS:
            self.fail(f"there are more than {MAX_ELEMENTS} elements")
        parent = self.names[-1] if self.names else ""
        if name not in _CHILDREN.get(parent, ()):
            self.fail(f"{name[:40]} is not expected within {parent or 'the document'}")
        self.names.append(name)
        match name:
            case "NativeDicomModel":
                self.open()
            case "DicomAttribute":
                self.attribute(attributes)
            case "Item":
                self.item()
            case "Value":
                self.number, self.text = self.number_of(attributes), []
            case "PersonName":
                self.number, self.name = self.number_of(attributes), {}
            case "InlineBinary":
                self.text = []
            case "BulkData":
                uri = attributes.get("uri") or attributes.get("uuid") or self.fail("BulkData has no uri")
                self.elements[-1][1]["BulkDataURI"] = uri
            case "Alphabetic" | "Ideographic" | "Phonetic":
                self.group, self.name[name] = name, []
            case _:
                self.text = []

    def end(self, qualified: str) -> None:
        name = self.names.pop()
        text = "".join(self.text) if self.text is not None else ""
        self.text = None
        match name:
            case "NativeDicomModel":
                self.result = self.close()
            case "DicomAttribute":
                self.elements.pop()
            case "Item":
                item = self.close()
                self.elements[-1][1].setdefault("Value", []).append(item)
            case "Value":
                element = self.elements[-1][1]
                self.put(element, _from_text(text, element["vr"]))
            case "PersonName":
                groups = {group: "^".join(parts) for group, parts in self.name.items()}
                self.put(self.elements[-1][1], {group: part for group, part in groups.items() if part} or None)
            case "InlineBinary":
                packed = "".join(text.split())
                if packed:
                    self.elements[-1][1]["InlineBinary"] = packed
            case "FamilyName" | "GivenName" | "MiddleName" | "NamePrefix" | "NameSuffix":
                components = self.name[self.group]
                components += [""] * (_COMPONENTS.index(name) + 1 - len(components))
                components[_COMPONENTS.index(name)] = text

    def open(self) -> None:
        if len(self.data_sets) > MAX_DEPTH:
            self.fail(f"sequences are nested more than {MAX_DEPTH} deep")
        self.data_sets.append({})
        self.waiting.append([])

    def close(self) -> dict[str, Any]:
        data_set, waiting = self.data_sets.pop(), self.waiting.pop()
        _give_blocks(data_set, waiting)
        return dict(sorted(data_set.items()))

    def attribute(self, attributes: dict[str, str]) -> None:
        tag, vr, creator = (attributes.get(name, "").strip() for name in ("tag", "vr", "privateCreator"))
        if not _TAG.fullmatch(tag):
            self.fail(f"{tag[:20]!r} is no tag")
        if vr not in _VRS:
            self.fail(f"{vr[:20]!r} is no VR")
        tag = tag.upper()
        element: dict[str, Any] = {"vr": vr}
        if creator and tag[3] in "13579BDF" and tag[4:6] == "00":
            self.waiting[-1].append((tag, creator, element))
        elif tag in self.data_sets[-1]:
            self.fail(f"({tag[:4]},{tag[4:]}) occurs twice in a data set")
        else:
            self.data_sets[-1][tag] = element
        self.elements.append((tag, element))

    def item(self) -> None:
        if self.elements[-1][1]["vr"] != "SQ":
            self.fail("an Item is in an attribute that is no sequence")
        self.open()

    def number_of(self, attributes: dict[str, str]) -> int:
        text = attributes.get("number", "").strip() or str(len(self.elements[-1][1].get("Value", ())) + 1)
        if not (text.isascii() and text.isdigit() and 0 < len(text) < 8 and 0 < int(text) <= MAX_ELEMENTS):
            self.fail("a number is none")
        return int(text)

    def put(self, element: dict[str, Any], value: Any) -> None:
        if element["vr"] in BULK_VRS or element["vr"] == "SQ":
            self.fail(f"an attribute of VR {element['vr']} has a Value")
        values = element.setdefault("Value", [])
        missing = self.number - 1 - len(values)
        self.count += max(missing, 0)
        if missing < 0 or self.count > MAX_ELEMENTS:
            self.fail("values are not in the order of their numbers")
        values += [None] * missing
        values.append(value)


_IN_A_DATA_SET = frozenset({"DicomAttribute"})
_CHILDREN: Mapping[str, frozenset[str]] = {
    "": frozenset({"NativeDicomModel"}),
    "NativeDicomModel": _IN_A_DATA_SET,
    "Item": _IN_A_DATA_SET,
    "DicomAttribute": frozenset({"Value", "PersonName", "Item", "InlineBinary", "BulkData"}),
    "PersonName": frozenset(_GROUPS),
    **dict.fromkeys(_GROUPS, frozenset(_COMPONENTS)),
}


def _from_text(text: str, vr: str) -> Any:
    """One value in DICOM JSON; text that is no number stays, as it does in a file."""
    plain = text.strip()
    if vr in ("UC", "LT", "ST", "UT", "UR"):
        return text or None
    if not plain:
        return None
    if vr == "IS":
        return integer(plain)
    if vr == "DS":
        return decimal(plain)
    if vr in _INTEGERS:
        return integer(plain)
    if vr in ("FL", "FD"):
        special = _TO_JSON.get(plain.lower().removeprefix("+"))
        return special or decimal(plain)
    return text if vr not in ("AT", "UI") else plain


def _give_blocks(data_set: dict[str, Any], waiting: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Private attributes get their full tags (PS3.5 7.8.1)."""
    for tag, creator, element in waiting:
        group = tag[:4]
        for number in range(0x10, 0x100):
            block = f"{number:02X}"
            reserved = data_set.get(f"{group}00{block}")
            if reserved is None:
                data_set[f"{group}00{block}"] = {"vr": "LO", "Value": [creator]}
            elif str((reserved.get("Value") or [""])[0]).strip(" \0") != creator:
                continue
            place = f"{group}{block}{tag[6:]}"
            if place not in data_set:
                data_set[place] = element
                break
        else:
            raise Unreadable(f"There is no block left for private attributes of group {group}")
