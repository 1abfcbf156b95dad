"""C-FIND, C-MOVE and C-GET of objects that belong to no patient (PS3.4 U, X, BB, HH, II, KK).

Hanging protocols, color palettes, implant templates, procedure protocols, inventories: each information model finds its
own objects only, by their own keys.
"""

from __future__ import annotations

import logging
from functools import partial

from pacs.dicom.encode import encode_data_set
from pacs.dicom.header import parse_data_set
from pacs.dicom.matchers import Matcher, Single, UidList, Universal
from pacs.dicom.model import Caller, Level
from pacs.dicom.non_patient import MODELS, NonPatientModel
from pacs.dimse.association import Message
from pacs.dimse.command import Field
from pacs.dimse.composite import CompositeRetrieve
from pacs.dimse.find import asked_for, rows, send_answers
from pacs.dimse.identifier import Identifier, identifier_of
from pacs.dimse.service import Service
from pacs.services.query import QueryService

log = logging.getLogger(__name__)

_SOP_CLASS_UID = ("00080016",)


class NonPatientObjects:
    """services: one a SOP class."""

    def __init__(self, query: QueryService, composite: CompositeRetrieve) -> None:
        self._query = query
        self.services = [
            service
            for model in MODELS
            for service in (
                Service("find", frozenset({model.find}), {Field.C_FIND: partial(self.find, model=model)}),
                Service(
                    "move",
                    frozenset({model.move}),
                    {Field.C_MOVE: partial(composite.move_non_patient, model=model)},
                ),
                Service(
                    "get",
                    frozenset({model.get}),
                    {Field.C_GET: partial(composite.get_non_patient, model=model)},
                ),
            )
        ]

    def find(self, message: Message, caller: Caller, model: NonPatientModel) -> None:
        """C-FIND without a level (PS3.4 U.4.1, which follows K.4.1). Raises PacsError as ``serve_find`` does."""
        read = identifier_of(parse_data_set(message.data_set(), message.context.transfer_syntax), Level.IMAGE)
        keys = {**read.keys, _SOP_CLASS_UID: UidList(_classes(read.keys.get(_SOP_CLASS_UID), model))}
        identifier = Identifier(read.attributes, Level.IMAGE, keys, read.returned)
        syntax = message.context.transfer_syntax
        found = (asked_for(row, identifier) for row in rows(self._query, identifier, caller))
        sent, final = send_answers(message, (encode_data_set(each, syntax) for each in found), read.attributes)
        log.info("found from=%s model=%s answers=%d status=%04XH", caller.name, model.name, sent, final.code)


def _classes(asked: Matcher | None, model: NonPatientModel) -> tuple[str, ...]:
    """The model's SOP classes, or those among them that are asked for; one that nothing has when none is."""
    if asked is None or isinstance(asked, Universal):
        return tuple(sorted(model.classes))
    wanted = {asked.value} if isinstance(asked, Single) else set(asked.values) if isinstance(asked, UidList) else set()
    return tuple(sorted(model.classes & wanted)) or ("0.0",)
