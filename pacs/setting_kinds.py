"""How a setting is described, and the kinds of values that several settings share."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, JsonValue, SecretStr

from pacs import store_options
from pacs.errors import Invalid
from pacs.services.file_key import FileKeyPattern

_MASK = "********"


def setting(default: Any, section: str, description: str, expected: str, example: str) -> Any:
    extra: dict[str, JsonValue] = {"section": section, "expected": expected, "example": example}
    return Field(default, description=description, json_schema_extra=extra, validate_default=True)


def shown(value: object) -> str:
    """As ``pacs config`` shows a value; secrets are masked."""
    if isinstance(value, SecretStr):
        return _MASK if value.get_secret_value() else ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return json.dumps(list(value)) if value else ""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, ByteSize):
        return _size(value)
    return "" if value is None else str(value)


def _size(size_bytes: int) -> str:
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size_bytes and size_bytes % (1 << shift) == 0:
            return f"{size_bytes >> shift}{unit}"
    return str(int(size_bytes))


def listed(value: object) -> object:
    """A JSON array, or items between commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [item.strip() for item in value.split(",") if item.strip()]


Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrNever = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Bytes = Annotated[ByteSize, Field(ge=0)]
Names = Annotated[tuple[str, ...], BeforeValidator(listed)]
Upper = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)
Lower = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)


def _ae_title(value: str) -> str:
    value = value.strip()
    if not re.fullmatch(r"[\x20-\x5b\x5d-\x7e]{1,16}", value):
        raise ValueError
    return value


def _route(value: str) -> str:
    value = value.strip("/")
    if not re.fullmatch(r"[\w.~-]+(/[\w.~-]+)*", value, re.ASCII):
        raise ValueError
    return value


def _origin(value: str) -> str:
    if value != "*" and not re.fullmatch(r"https?://[^/\s]+", value):
        raise ValueError
    return value


def _address(value: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+\S*", value):
        raise ValueError
    return value


def _network(value: str) -> str:
    ipaddress.ip_network(value, strict=False)
    return value


def _file_pattern(value: str) -> str:
    try:
        FileKeyPattern(value)
    except Invalid as error:
        raise ValueError from error
    return value


def _store_url(value: str) -> str:
    if value and not re.fullmatch(r"(s3|gs|az|abfss?)://[^/\s?#@]+(/[^\s?#]*)?", value):
        raise ValueError
    return value.rstrip("/")


def _store_options(value: SecretStr) -> SecretStr:
    store_options.parse(value.get_secret_value())
    return value


AETitle = Annotated[str, AfterValidator(_ae_title)]
Route = Annotated[str, AfterValidator(_route)]
Origin = Annotated[str, AfterValidator(_origin)]
Address = Annotated[str, AfterValidator(_address)]
Network = Annotated[str, AfterValidator(_network)]
FilePattern = Annotated[str, AfterValidator(_file_pattern)]
StoreURL = Annotated[str, AfterValidator(_store_url)]
StoreOptions = Annotated[SecretStr, AfterValidator(_store_options)]

PORT = "a port number, 1 to 65535"
BOOL = "true or false"
TEXT = "text"
SECONDS = "seconds, more than 0"
BYTES = "a number of bytes, or a size such as 500MiB or 4GiB"
BYTES_OR_NONE = f"{BYTES}; 0: no limit"
COUNT = "a whole number, 1 or more"
HOST = "a host name or address; 0.0.0.0 for all"
