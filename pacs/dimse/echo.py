"""C-ECHO SCP (PS3.4 Annex A)."""

from __future__ import annotations

import logging

from pacs.dicom.model import Caller
from pacs.dimse.association import Message
from pacs.dimse.status import SUCCESS, Status

log = logging.getLogger(__name__)


def serve_echo(message: Message, caller: Caller) -> None:
    message.drain()
    message.respond(Status(SUCCESS))
    log.info("echoed from=%s address=%s", caller.name, caller.address)
