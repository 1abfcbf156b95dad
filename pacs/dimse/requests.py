"""What the archive asks of its peers as SCU: C-ECHO, C-FIND, C-MOVE and C-GET, each over an association of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.encode import encode_data_set
from pacs.dicom.header import parse_data_set
from pacs.dicom.model import Attributes, Caller, Level
from pacs.dimse.association import Association, Message
from pacs.dimse.client import associate, end
from pacs.dimse.command import HAS_DATA_SET, RESPONSE, Command, Field
from pacs.dimse.identifier import LEVEL, LEVEL_NAMES
from pacs.dimse.models import VERIFICATION
from pacs.dimse.negotiation import MAX_CONTEXTS, Context, ProposedContext
from pacs.dimse.peers import Peer
from pacs.dimse.status import CANCELLED, PENDING, PENDING_UNSUPPORTED_KEYS, SUB_OPERATIONS_FAILED, SUCCESS
from pacs.dimse.store import serve_store
from pacs.dimse.wire import AbortReason, Closed, ProtocolError, Timeouts
from pacs.errors import PacsError
from pacs.services.store import Store

log = logging.getLogger(__name__)

_ROOTS = {Level.PATIENT: "1.2.840.10008.5.1.4.1.2.1", Level.STUDY: "1.2.840.10008.5.1.4.1.2.2"}
_FIND, _MOVE, _GET = ".1", ".2", ".3"
_ANY = (syntaxes.EXPLICIT_VR_LITTLE_ENDIAN, syntaxes.IMPLICIT_VR_LITTLE_ENDIAN)
# Uncompressed first, then what is met most.
_SYNTAXES = (*_ANY, *(syntax.uid for syntax in syntaxes.ALL if syntax.uid not in _ANY))
_REQUEST = 1  # the only request of its association
_PENDING = (PENDING, PENDING_UNSUPPORTED_KEYS)


class Failed(PacsError):
    """The peer could not be asked, or refused; says why."""


@dataclass(slots=True)
class Progress:
    """Of C-MOVE and C-GET: sub-operations so far. remaining: None when the peer does not say."""

    remaining: int | None = None
    completed: int = 0
    failed: int = 0
    warnings: int = 0


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests to one peer. calling: our AE title. All raise Failed."""

    peer: Peer
    calling: str
    timeouts: Timeouts = field(default_factory=Timeouts)

    def echo(self) -> float:
        """C-ECHO; seconds from the request to its answer."""
        with self._association([ProposedContext(1, VERIFICATION, _ANY)]) as association:
            context = self._context(association, VERIFICATION)
            began = time.perf_counter()
            association.send(context.context_id, Command(Field.C_ECHO, VERIFICATION, message_id=_REQUEST))
            answer = association.response(_REQUEST)
            answer.drain()
            self._check(answer.command, SUCCESS)
            return time.perf_counter() - began

    def find(self, level: Level, keys: Attributes, limit: int | None = None) -> Iterator[Attributes]:
        """C-FIND: the matches, as they come. keys: the identifier without its level. limit: then it is cancelled."""
        sop_class = _ROOTS[Level.PATIENT if level is Level.PATIENT else Level.STUDY] + _FIND
        with self._association([ProposedContext(1, sop_class, _ANY)]) as association:
            context = self._ask(association, sop_class, Field.C_FIND, level, keys)
            count = 0
            while (answer := association.response(_REQUEST)).command.status in _PENDING:
                found = parse_data_set(answer.data_set(), context.transfer_syntax)
                count += 1
                # What was on its way when it was cancelled is read, and not given.
                if limit is None or count <= limit:
                    yield found
                if count == limit:
                    cancel = Command(Field.C_CANCEL, responded_id=_REQUEST)
                    association.send(context.context_id, cancel)
            answer.drain()
            self._check(answer.command, SUCCESS, CANCELLED)

    def move(self, destination: str, level: Level, keys: Attributes) -> Iterator[Progress]:
        """C-MOVE: have the peer send to ``destination``, which it has to know. keys: unique keys down to the level."""
        sop_class = _ROOTS[Level.PATIENT if level is Level.PATIENT else Level.STUDY] + _MOVE
        with self._association([ProposedContext(1, sop_class, _ANY)]) as association:
            self._ask(association, sop_class, Field.C_MOVE, level, keys, destination)
            while True:
                answer = association.response(_REQUEST)
                yield _progress(answer.command)
                if answer.command.status not in _PENDING:
                    break
                answer.drain()
            answer.drain()
            self._check(answer.command, SUCCESS, SUB_OPERATIONS_FAILED)

    def get(
        self,
        level: Level,
        keys: Attributes,
        store: Store,
        classes: Sequence[str],
    ) -> Iterator[Progress]:
        """C-GET: take what matches into ``store``, over the same association. classes: SOP classes of what is to come.

        They may come in any transfer syntax that is known here, so that the peer need not decode anything.
        """
        sop_class = _ROOTS[Level.PATIENT if level is Level.PATIENT else Level.STUDY] + _GET
        contexts = [ProposedContext(1, sop_class, _ANY), *_storage_contexts(classes)]
        caller = Caller(self.peer.ae_title, f"{self.peer.host}:{self.peer.port}", "dimse")
        roles = dict.fromkeys(classes, (False, True))
        with self._association(contexts, roles) as association:
            self._ask(association, sop_class, Field.C_GET, level, keys)
            while True:
                message = self._next(association)
                if message.command.field == Field.C_STORE:
                    serve_store(message, store, caller)
                    continue
                yield _progress(message.command)
                if message.command.status not in _PENDING:
                    break
                message.drain()
            message.drain()
            self._check(message.command, SUCCESS, SUB_OPERATIONS_FAILED)

    def _next(self, association: Association) -> Message:
        message = association.receive(self.timeouts.message_s)
        if message is None:
            raise Closed("released by the peer in the middle of a request")
        if message.command.field not in (Field.C_STORE, Field.C_GET | RESPONSE):
            raise ProtocolError("neither a sub-operation of C-GET nor its answer", AbortReason.UNEXPECTED_PDU)
        return message

    @contextmanager
    def _association(
        self, contexts: Sequence[ProposedContext], roles: Mapping[str, tuple[bool, bool]] | None = None
    ) -> Generator[Association, None, None]:
        try:
            association = associate(self.peer, self.calling, contexts, self.timeouts, roles)
        except (Closed, ProtocolError) as error:
            raise Failed(str(error)) from error
        try:
            yield association
        except (Closed, ProtocolError) as error:
            association.abort()
            association.close()
            raise Failed(f"{self.peer.ae_title}: {error}") from error
        except BaseException:
            # Its answer may not have been read to the end.
            association.abort()
            association.close()
            raise
        end(association)

    def _context(self, association: Association, sop_class: str) -> Context:
        for context in association.contexts.values():
            if context.abstract_syntax == sop_class:
                return context
        raise Failed(f"{self.peer.ae_title} does not offer this service (SOP class {sop_class})")

    def _ask(
        self,
        association: Association,
        sop_class: str,
        operation: Field,
        level: Level,
        keys: Attributes,
        destination: str | None = None,
    ) -> Context:
        context = self._context(association, sop_class)
        identifier = dict(sorted({**keys, LEVEL: {"vr": "CS", "Value": [LEVEL_NAMES[level]]}}.items()))
        command = Command(
            operation,
            sop_class,
            message_id=_REQUEST,
            priority=0,
            data_set_type=HAS_DATA_SET,
            destination=destination,
        )
        association.send(context.context_id, command, encode_data_set(identifier, context.transfer_syntax))
        return context

    def _check(self, answer: Command, *allowed: int) -> None:
        if answer.status not in allowed:
            code = "no status" if answer.status is None else f"{answer.status:04X}H"
            raise Failed(f"{self.peer.ae_title} answered {code} {answer.error_comment or ''}".rstrip())


def _storage_contexts(classes: Sequence[str]) -> Iterator[ProposedContext]:
    """A context of its own for every transfer syntax, as long as there are enough of them: the peer decides on each."""
    room = MAX_CONTEXTS - 1
    each = max(1, room // max(1, len(classes)))
    context_id = 3
    for sop_class in classes[:room]:
        alone, together = _SYNTAXES[: each - 1], _SYNTAXES[each - 1 :]
        for group in (*((uid,) for uid in alone), together):
            if group:
                yield ProposedContext(context_id, sop_class, group)
                context_id += 2


def _progress(command: Command) -> Progress:
    return Progress(command.remaining, command.completed or 0, command.failed or 0, command.warnings or 0)
