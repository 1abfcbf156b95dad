"""C-STORE SCP (PS3.4 Annex B): fragments go to disk as they come; the answer says that they stay there."""

from __future__ import annotations

from pacs.dicom.file_meta import FileMeta
from pacs.dicom.model import Caller
from pacs.dimse.association import Message
from pacs.dimse.models import is_storage
from pacs.dimse.status import CLASS_NOT_SUPPORTED, PROCESSING_FAILURE, SUCCESS, Status, status_of
from pacs.errors import PacsError
from pacs.services.store import Store


def serve_store(message: Message, store: Store, caller: Caller) -> None:
    """Receive one instance and answer. Raises what the association raises; nothing is left behind then."""
    try:
        status = _receive(message, store, caller)
    except PacsError as error:
        status = status_of(error)
        message.drain()
    message.respond(status, sop_uid=message.command.sop_uid)


def _receive(message: Message, store: Store, caller: Caller) -> Status:
    command, context = message.command, message.context
    if not is_storage(context.abstract_syntax):
        message.drain()
        return Status(CLASS_NOT_SUPPORTED, "not a presentation context of a storage SOP class")
    if not command.has_data_set:
        return Status(PROCESSING_FAILURE, "C-STORE without a data set")
    meta = FileMeta(
        sop_class_uid=command.sop_class_uid or context.abstract_syntax,
        sop_uid=command.sop_uid or "",
        transfer_syntax_uid=context.transfer_syntax,
        source_ae_title=caller.name,
    )
    with store.spool(meta) as spool:
        for fragment in message.fragments():
            spool.write(fragment)
        store.store(spool, caller, derive_uids=True)
    return Status(SUCCESS)
