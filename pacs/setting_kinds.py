"""How a setting is described, and the kinds of values that several settings share."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, ByteSize, Field, JsonValue


def setting(default: Any, section: str, description: str, expected: str, example: str) -> Any:
    extra: dict[str, JsonValue] = {"section": section, "expected": expected, "example": example}
    return Field(default, description=description, json_schema_extra=extra, validate_default=True)


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

PORT = "a port number, 1 to 65535"
BOOL = "true or false"
TEXT = "text"
SECONDS = "seconds, more than 0"
BYTES = "a number of bytes, or a size such as 500MiB or 4GiB"
BYTES_OR_NONE = f"{BYTES}; 0: no limit"
COUNT = "a whole number, 1 or more"
HOST = "a host name or address; 0.0.0.0 for all"
