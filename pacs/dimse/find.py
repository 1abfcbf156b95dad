"""C-FIND SCP (PS3.4 C.4.1)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from pacs.dicom.encode import encode_data_set
from pacs.dicom.matching import element_at
from pacs.dicom.model import Attributes, Caller
from pacs.dimse.association import Message
from pacs.dimse.command import HAS_DATA_SET
from pacs.dimse.identifier import (
    AVAILABILITY,
    LEVEL,
    LEVEL_NAMES,
    RETRIEVE_AE_TITLE,
    Identifier,
    read_identifier,
)
from pacs.dimse.status import CANCELLED, PENDING, PENDING_UNSUPPORTED_KEYS, SUCCESS, Status
from pacs.index.base import Fields, Query
from pacs.services.query import QueryService

log = logging.getLogger(__name__)

_PAGE_ROWS = 500
_BATCH_BYTES = 32 * 1024  # answers that go out together; between two batches a C-CANCEL is looked for
# Not kept for answers: bulk data, and Storage Media File-Set ID and UID, which an archive that is online has none of.
_UNSUPPORTED_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW"})
_UNSUPPORTED_TAGS = frozenset({"00880130", "00880140"})


def serve_find(message: Message, query: QueryService, caller: Caller, ae_title: str) -> None:
    """Answer with every match. Raises PacsError when the request cannot be answered."""
    identifier = read_identifier(message)
    syntax = message.context.transfer_syntax
    answers = (encode_data_set(_answer(row, identifier, ae_title), syntax) for row in rows(query, identifier, caller))
    sent, final = send_answers(message, answers, identifier.attributes)
    log.info(
        "found from=%s level=%s answers=%d status=%04XH", caller.name, LEVEL_NAMES[identifier.level], sent, final.code
    )


def send_answers(message: Message, answers: Iterable[bytes], asked: Attributes) -> tuple[int, Status]:
    """Send answers until there are no more, or the peer has enough: (how many, with which status it ended).

    answers: encoded data sets. asked: the identifier, of which keys may be such that no answer can have.
    """
    association, context = message.association, message.context
    message_id = message.command.message_id or 0
    status = Status(PENDING_UNSUPPORTED_KEYS if _has_unsupported_keys(asked) else PENDING)
    pending = message.response(status, data_set_type=HAS_DATA_SET)
    final = Status(SUCCESS)
    batch: list[bytes | memoryview] = []
    size = sent = 0
    for answer in answers:
        parts = association.encode(context.context_id, pending, answer)
        batch += parts
        size += sum(len(part) for part in parts)
        sent += 1
        if size >= _BATCH_BYTES:
            association.send_encoded(batch)
            batch, size = [], 0
            if association.is_cancelled(message_id):
                final = Status(CANCELLED)
                break
    batch += association.encode(context.context_id, message.response(final))
    association.send_encoded(batch)
    return sent, final


def rows(query: QueryService, identifier: Identifier, caller: Caller) -> Iterator[Attributes]:
    """All matches, a page at a time, so that neither memory nor the index is held."""
    fields = Fields(tags=frozenset(identifier.returned))
    after = None
    while True:
        page = query.search(
            Query(identifier.level, identifier.keys, fields=fields, limit=_PAGE_ROWS, after=after), caller
        )
        for row in page.rows:
            yield orjson.loads(row)
        after = page.next
        if after is None:
            return


def asked_for(row: Attributes, identifier: Identifier) -> dict[str, Any]:
    """Every attribute that was asked for, empty where there is no value."""
    asked = identifier.attributes
    found = {tag: answered(element_at(row, name), asked[tag]) for name, tag in identifier.returned.items()}
    # Private creators of the identifier, whose blocks the answer's private attributes lie in.
    found.update((tag, asked[tag]) for tag in asked if _is_creator(tag))
    return found


def _answer(row: Attributes, identifier: Identifier, ae_title: str) -> dict[str, Any]:
    """With what else an answer carries (PS3.4 C.4.1.1.3.2)."""
    asked = identifier.attributes
    answer = asked_for(row, identifier)
    answer[LEVEL] = {"vr": "CS", "Value": [LEVEL_NAMES[identifier.level]]}
    answer[RETRIEVE_AE_TITLE] = {"vr": "AE", "Value": [ae_title]}
    if AVAILABILITY in asked:
        answer[AVAILABILITY] = {"vr": "CS", "Value": ["ONLINE"]}
    return dict(sorted(answer.items()))


def answered(found: Mapping[str, Any] | None, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The element that answers a key; of a sequence's items what the key's item names, all when it has none."""
    if found is None or "BulkDataURI" in found:
        return {"vr": asked["vr"]}
    wanted = asked.get("Value")
    if found["vr"] == "SQ" and wanted and wanted[0]:
        items = [
            {tag: answered(item.get(tag), inner) for tag, inner in wanted[0].items()} for item in found.get("Value", ())
        ]
        return {"vr": "SQ", "Value": items}
    return found


def _is_creator(tag: str) -> bool:
    return tag[3] in "13579BDF" and tag[4:6] == "00" and tag[6:] >= "10"


def _has_unsupported_keys(asked: Attributes) -> bool:
    return any(tag in _UNSUPPORTED_TAGS or key["vr"] in _UNSUPPORTED_VRS for tag, key in asked.items())
