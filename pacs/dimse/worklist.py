"""Modality Worklist SCP: C-FIND (PS3.4 K)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pacs.dicom import charset, keys
from pacs.dicom.encode import SPECIFIC_CHARACTER_SET, encode_data_set
from pacs.dicom.header import parse_in_memory
from pacs.dicom.json_model import dumps
from pacs.dicom.model import Attributes, Caller
from pacs.dimse.association import Message
from pacs.dimse.command import Field
from pacs.dimse.find import answered, send_answers
from pacs.dimse.service import Service
from pacs.services.worklist import Worklist

log = logging.getLogger(__name__)

MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"
# Single character sets. Not ISO_IR 13, which is but a part of what its codec writes.
_WRITTEN = re.compile(r"ISO_IR (?!13$)\d{1,3}|GB18030|GBK")


def worklist_service(worklist: Worklist) -> Service:
    def serve(message: Message, caller: Caller) -> None:
        serve_worklist(message, worklist, caller)

    return Service("worklist", frozenset({MODALITY_WORKLIST}), {Field.C_FIND: serve})


def serve_worklist(message: Message, worklist: Worklist, caller: Caller) -> None:
    """Answer with every item that matches. Raises PacsError when the identifier cannot mean anything."""
    syntax = message.context.transfer_syntax
    parsed = parse_in_memory(message.data_set(), syntax)
    asked = parsed.attributes
    found = worklist.search(keys.from_identifier(asked).matchers, caller, message.association.called or None)
    sent, final = send_answers(message, _answers(found, asked, parsed.character_set, syntax), asked)
    log.info("worklist answered from=%s answers=%d status=%04XH", caller.name, sent, final.code)


def _answers(
    found: list[Attributes], asked: Attributes, character_set: Sequence[str], transfer_syntax_uid: str
) -> Iterator[bytes]:
    """Encoded, with every attribute that was asked for, empty where there is no value (PS3.4 K.4.1.1.3.2)."""
    tags = [tag for tag in asked if tag not in keys.CONTROLS and not tag.endswith("0000")]
    for item in found:
        answer: dict[str, Any] = {tag: answered(item.get(tag), asked[tag]) for tag in tags}
        own = [str(term) for term in item.get(SPECIFIC_CHARACTER_SET, {}).get("Value") or ()]
        term = _term(answer, character_set, own)
        if SPECIFIC_CHARACTER_SET in asked:
            answer[SPECIFIC_CHARACTER_SET] = {"vr": "CS", "Value": [term]}
        yield encode_data_set(dict(sorted(answer.items())), transfer_syntax_uid, character_set=term)


def _term(answer: Attributes, *liked: Sequence[str]) -> str:
    """The first of these character sets that can say all of the answer, for modalities that know no UTF-8; else that.

    liked: values of (0008,0005). Those that take code extensions are left out: these are not written here.
    """
    wide = "".join({character for character in dumps(answer).decode() if not character.isascii()})
    for terms in liked:
        is_written = len(terms) == 1 and _WRITTEN.fullmatch(terms[0])
        if is_written and charset.of(tuple(terms)).text(charset.encode(wide, terms[0])) == wide:
            return terms[0]
    return charset.UTF_8
