"""Write the data dictionaries of the web page: dictionary.json and private.json in pacs/web/static/ui.

    python -m scripts.page_dictionary

From pydicom's (PS3.6 and what vendors have told). Run it again after pydicom has been brought up to date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom._private_dict import private_dictionaries
from pydicom.uid import UID_dictionary

PYDICOM = "3.0.2"  # whose dictionaries the files have
FOLDER = Path(__file__).resolve().parent.parent / "pacs" / "web" / "static" / "ui"
_UID_KINDS = (
    "SOP Class",
    "Transfer Syntax",
    "Meta SOP Class",
    "Well-known SOP Instance",
)


def public() -> dict[str, dict[str, Any]]:
    """attributes: tag → [VR, name, keyword]; repeating: the same by tags such as 60xx0010; uids: UID → name."""
    attributes = {f"{tag:08X}": _entry(entry) for tag, entry in sorted(DicomDictionary.items())}
    repeating = {tag: _entry(entry) for tag, entry in sorted(RepeatersDictionary.items())}
    uids = {uid: entry[0] for uid, entry in sorted(UID_dictionary.items()) if entry[1] in _UID_KINDS}
    return {"attributes": attributes, "repeating": repeating, "uids": uids}


def private() -> dict[str, dict[str, list[str]]]:
    """Private creator → tag such as 0019XX0A → [VR, name]."""
    found = {
        creator: {tag.upper(): [entry[0], entry[2]] for tag, entry in sorted(entries.items()) if entry[2] != "Unknown"}
        for creator, entries in sorted(private_dictionaries.items())
    }
    return {creator: entries for creator, entries in found.items() if entries}


def text(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def _entry(entry: tuple[str, str, str, str, str]) -> list[str]:
    vr, _, name, _, keyword = entry
    return [vr, name, keyword]


def main() -> None:
    (FOLDER / "dictionary.json").write_text(text(public()), "utf-8")
    (FOLDER / "private.json").write_text(text(private()), "utf-8")


if __name__ == "__main__":
    main()
