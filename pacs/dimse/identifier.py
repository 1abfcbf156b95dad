"""Identifiers of C-FIND, C-MOVE and C-GET requests (PS3.4 C.2.2.1): level and keys."""

from __future__ import annotations

from dataclasses import dataclass

from pacs.dicom.attributes import UNIQUE_KEYS
from pacs.dicom.header import parse_data_set
from pacs.dicom.keys import from_identifier
from pacs.dicom.matching import Matcher, Single, TagPath, UidList, Universal, ValueList
from pacs.dicom.model import Attributes, Level
from pacs.dimse.association import Message
from pacs.dimse.models import MODELS, Model
from pacs.dimse.negotiation import is_fuzzy
from pacs.errors import Invalid, NotStorable

CHARACTER_SET = "00080005"
LEVEL = "00080052"
RETRIEVE_AE_TITLE = "00080054"
AVAILABILITY = "00080056"
TIMEZONE = "00080201"

_LEVELS = {"PATIENT": Level.PATIENT, "STUDY": Level.STUDY, "SERIES": Level.SERIES, "IMAGE": Level.IMAGE}
LEVEL_NAMES = {level: name for name, level in _LEVELS.items()}


@dataclass(frozen=True, slots=True)
class Identifier:
    """attributes: all of it. keys: those that ask for something. returned: what the answers carry, by the name that

    the index knows it by: a private attribute's is "GGGG00EE@CREATOR", and its tag is the identifier's.
    """

    attributes: Attributes
    level: Level
    keys: dict[TagPath, Matcher]
    returned: dict[str, str]


def read_identifier(message: Message) -> Identifier:
    """The request's identifier.

    Relational queries need not be negotiated: keys of any level are matched at any level. Fuzzy matching of names is
    what was negotiated. Raises Unreadable, Invalid, TooLarge, and NotStorable (0122H) when the presentation context is
    not one for this request.
    """
    data = message.data_set()
    model = MODELS.get(message.context.abstract_syntax)
    if model is None or model.field != message.command.field:
        raise NotStorable("the request is not one of its presentation context's SOP class")
    attributes = parse_data_set(data, message.context.transfer_syntax)
    fuzzy = is_fuzzy(message.association.extensions, message.context.abstract_syntax)
    return identifier_of(attributes, _level(attributes, model), fuzzy=fuzzy)


def identifier_of(attributes: Attributes, level: Level, *, fuzzy: bool = False) -> Identifier:
    """Raises Invalid for a key that cannot mean anything."""
    keys = from_identifier(attributes, fuzzy=fuzzy)
    returned = {name: _tag(name, attributes) for name in keys.tags}
    if TIMEZONE in attributes:
        returned[TIMEZONE] = TIMEZONE
    return Identifier(attributes, level, keys.matchers, returned)


def unique_keys(identifier: Identifier) -> dict[TagPath, Matcher]:
    """The keys that choose what is retrieved (PS3.4 C.4.2.1.4): unique keys with values, the level's own among them.

    Raises Invalid when that one is missing, or when one of them is a pattern: a "*" must not send the whole archive.
    """
    tags = {UNIQUE_KEYS[level]: level for level in Level}
    found: dict[TagPath, Matcher] = {}
    for path, key in identifier.keys.items():
        if len(path) == 1 and path[0] in tags and not isinstance(key, Universal):
            if not _is_exact(key):
                raise Invalid(f"{LEVEL_NAMES[tags[path[0]]]} unique key must be a value, not a pattern", path[0])
            found[path] = key
    if (UNIQUE_KEYS[identifier.level],) not in found:
        name = LEVEL_NAMES[identifier.level]
        raise Invalid(f"the unique key of level {name} is missing", UNIQUE_KEYS[identifier.level])
    return found


def _is_exact(key: Matcher) -> bool:
    if isinstance(key, ValueList):
        return all(_is_exact(each) for each in key.any_of)
    return isinstance(key, Single | UidList)


def _level(attributes: Attributes, model: Model) -> Level:
    values = attributes.get(LEVEL, {}).get("Value") or [""]
    name = str(values[0]).strip().upper()
    level = _LEVELS.get("IMAGE" if name == "INSTANCE" else name)
    if level is None:
        raise Invalid("QueryRetrieveLevel is missing" if not name else f"unknown QueryRetrieveLevel {name}", LEVEL)
    if level not in model.levels:
        raise Invalid(f"level {name} is not one of the {model.name} model", LEVEL)
    return level


def _tag(name: str, attributes: Attributes) -> str:
    """The tag in the identifier of an attribute by its name in the index."""
    if "@" not in name:
        return name
    group, element, creator = name[:4], name[6:8], name[9:]
    for tag, reserved in attributes.items():
        if tag.startswith(f"{group}00") and str((reserved.get("Value") or [""])[0]).strip(" \0") == creator:
            block = f"{group}{tag[6:]}{element}"
            if block in attributes:
                return block
    raise Invalid(f"{name} has no private creator", name)
