"""Services beyond storage and query/retrieve, as values that the server is composed with (PS3.4, DIMSE-N and more)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pacs.dicom.header import parse_data_set
from pacs.dicom.model import Caller
from pacs.dimse.association import IDENTIFIER_LIMIT, Message
from pacs.dimse.command import Field, is_normalized
from pacs.dimse.status import CLASS_NOT_SUPPORTED, UNRECOGNIZED_OPERATION, Refused, Status, comment, status_of
from pacs.dimse.wire import Closed, ProtocolError
from pacs.errors import PacsError

log = logging.getLogger(__name__)

Serve = Callable[[Message, Caller], None]


@dataclass(frozen=True, slots=True)
class Service:
    """One DIMSE service. sop_classes: the abstract syntaxes that peers may propose for it.

    serve: by request, what answers it: exactly once, with ``Message.respond``, or by raising a PacsError before that
    (``status.Refused`` for a status of its own). may_use: whether the archive may be the SCU too, so that a peer that
    proposes to be the SCP is granted that role (PS3.7 D.3.3.4).
    """

    name: str
    sop_classes: frozenset[str]
    serve: Mapping[Field, Serve]
    may_use: bool = False


class Services:
    """The services of a server, by their SOP classes. Raises ValueError when two of them claim the same."""

    def __init__(self, services: Iterable[Service] = ()) -> None:
        self._by_class: dict[str, Service] = {}
        for service in services:
            for uid in service.sop_classes:
                other = self._by_class.setdefault(uid, service)
                if other is not service:
                    raise ValueError(f"SOP class {uid} is served by {other.name} and by {service.name}")
        # As ``negotiation.accept`` wants them: SOP class → whether the peer may be its SCP.
        self.roles: Mapping[str, bool] = {uid: service.may_use for uid, service in self._by_class.items()}
        self.names: Mapping[str, str] = {uid: service.name for uid, service in self._by_class.items()}

    def find(self, message: Message) -> Serve | None:
        """What answers this request; None for C-STORE, C-FIND ... on a context that is not of one of these services.

        Raises Refused for an N-request that no service takes, or whose SOP class is not one of its service's.
        """
        command = message.command
        service = self._by_class.get(message.context.abstract_syntax)
        if service is not None and command.field in service.serve:
            # UPS: the class of the request is UPS Push on the contexts of all UPS classes (PS3.4 CC).
            if is_normalized(command.field) and command.class_uid not in (None, *service.sop_classes):
                raise Refused(Status(CLASS_NOT_SUPPORTED, comment(f"SOP class {command.class_uid} is not supported")))
            return service.serve[Field(command.field)]
        if is_normalized(command.field):
            raise _unrecognized()
        return None

    def serve(self, message: Message, caller: Caller) -> None:
        """Have a service answer the request. Raises Refused when none does."""
        serve = self.find(message)
        if serve is None:
            raise _unrecognized()
        serve(message, caller)


def _unrecognized() -> Refused:
    return Refused(Status(UNRECOGNIZED_OPERATION, "the SOP class has no such operation here"))


def serve_request(message: Message, caller: Caller, serve: Serve) -> None:
    """Have a request served; a failure is answered with its status, and does not end the association.

    Raises Closed and ProtocolError.
    """
    try:
        serve(message, caller)
    except (Closed, ProtocolError):
        raise
    except Exception as error:
        field = message.command.field
        if not isinstance(error, PacsError):
            log.exception("request failed command=%04XH from=%s", field, caller.name)
        elif is_normalized(field):
            log.warning("refused command=%04XH from=%s reason=%s", field, caller.name, error)
        message.drain()
        message.respond(status_of(error, normalized=is_normalized(field)))
    else:
        message.drain()


def read_attributes(message: Message, limit: int = IDENTIFIER_LIMIT) -> dict[str, Any]:
    """The data set of a request as DICOM JSON attributes; empty when it has none. limit: bytes.

    Raises Unreadable and TooLarge, after reading it to its end.
    """
    if not message.command.has_data_set:
        return {}
    return parse_data_set(message.data_set(limit), message.context.transfer_syntax)
