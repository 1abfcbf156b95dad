"""DICOM_STORE_OPTIONS: how to reach an object store."""

from __future__ import annotations

import json


def parse(text: str) -> dict[str, str]:
    """A JSON object, or name=value between commas. Raises ValueError that does not repeat the text: it has secrets."""
    text = text.strip()
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except ValueError:
            raise ValueError("not a JSON object") from None
        return {
            str(name).lower(): str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in found.items()
        }
    options = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise ValueError("an option without =")
        options[name.strip().lower()] = value.strip()
    return options
