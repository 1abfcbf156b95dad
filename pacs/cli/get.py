"""``pacs get``: fetch instances from another archive (C-GET)."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pacs.cli import asking, console
from pacs.dicom.attributes import UNIQUE_KEYS
from pacs.dicom.model import Level
from pacs.errors import NotFound

if TYPE_CHECKING:
    from pacs.dimse.requests import Requests

_SERIES, _INSTANCE = UNIQUE_KEYS[Level.SERIES], UNIQUE_KEYS[Level.IMAGE]
_SOP_CLASS = "00080016"


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "get",
        help="fetch instances from a peer (C-GET)",
        description="Fetch instances from another archive into this one, over one connection that goes out from here: "
        "the peer need not know this archive, nor reach it. A server may be running. The exit code is 1 when something "
        "failed.",
    )
    asking.add_peer(parser)
    asking.add_uids(parser)
    console.add_data_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    level, keys = asking.uids_of(arguments)
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    from pacs.archive import Archive

    requests = asking.requests_to(settings, arguments.peer)
    with Archive.open(settings) as archive:
        classes = _what_comes(requests, keys)
        if not classes:
            raise NotFound(f"{arguments.peer} has nothing of that")
        total = sum(classes.values())
        steps = requests.get(level, keys, archive.store, list(classes))
        last = asking.follow(steps, "Fetching", total=total, show=not arguments.json)
    # Whatever the peer calls it: what it listed and did not send has not been fetched.
    last = replace(last, failed=max(last.failed, total - last.completed - last.warnings))
    return asking.report(last, "Fetched", as_json=arguments.json)


def _what_comes(requests: Requests, keys: Mapping[str, Any]) -> dict[str, int]:
    """SOP classes of what will come, with how many there are: what is not named beforehand cannot be taken."""
    found: dict[str, int] = {}
    wanted = {tag: {"vr": "UI"} for tag in (_SERIES, _INSTANCE, _SOP_CLASS)} | dict(keys)
    if _SERIES in keys:
        series = [asking.text_of(keys[_SERIES])]
    else:
        asked = dict(keys) | {_SERIES: {"vr": "UI"}}
        series = [asking.text_of(answer.get(_SERIES)) for answer in requests.find(Level.SERIES, asked)]
    for uid in series:
        for answer in requests.find(Level.IMAGE, wanted | {_SERIES: {"vr": "UI", "Value": [uid]}}):
            sop_class = asking.text_of(answer.get(_SOP_CLASS))
            if sop_class:
                found[sop_class] = found.get(sop_class, 0) + 1
    return found
