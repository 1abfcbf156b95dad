"""What the archive asks of its peers as SCU: C-ECHO, C-FIND, C-MOVE, C-GET, DIMSE-N; each over its own association."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.encode import encode_data_set
from pacs.dicom.header import parse_data_set
from pacs.dicom.model import Attributes, Caller, Level
from pacs.dimse.association import Association
from pacs.dimse.client import FALLBACKS, associate, end
from pacs.dimse.command import HAS_DATA_SET, RESPONSE, Command, Field
from pacs.dimse.identifier import LEVEL, LEVEL_NAMES
from pacs.dimse.models import MODELS, VERIFICATION
from pacs.dimse.negotiation import MAX_CONTEXTS, Context, ProposedContext
from pacs.dimse.normalized import NormalizedUser
from pacs.dimse.peers import Peer
from pacs.dimse.service import Service, Services
from pacs.dimse.status import CANCELLED, PENDING, PENDING_UNSUPPORTED_KEYS, SUB_OPERATIONS_FAILED, SUCCESS
from pacs.dimse.store import serve_store
from pacs.dimse.wire import AbortReason, Closed, ProtocolError, Timeouts
from pacs.errors import PeerFailed
from pacs.services.store import Store

# Uncompressed first, then what is met most.
_SYNTAXES = (*FALLBACKS, *(syntax.uid for syntax in syntaxes.ALL if syntax.uid not in FALLBACKS))
_REQUEST = 1  # the only request of its association
_PENDING = (PENDING, PENDING_UNSUPPORTED_KEYS)


@dataclass(frozen=True, slots=True)
class Progress:
    """Of sub-operations so far. remaining: None when the peer does not say."""

    remaining: int | None = None
    completed: int = 0
    failed: int = 0
    warnings: int = 0

    def after(self, answer: Command) -> Progress:
        """With what an answer says; what it leaves out, as many last answers do, stays."""
        return Progress(
            answer.remaining,
            self.completed if answer.completed is None else answer.completed,
            self.failed if answer.failed is None else answer.failed,
            self.warnings if answer.warnings is None else answer.warnings,
        )


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests to one peer. calling: our AE title. All raise PeerFailed."""

    peer: Peer
    calling: str
    timeouts: Timeouts = field(default_factory=Timeouts)

    def echo(self) -> float:
        """C-ECHO; seconds from the request to its answer."""
        with self._association([ProposedContext(1, VERIFICATION, FALLBACKS)]) as association:
            context = self._context(association, VERIFICATION)
            began = time.perf_counter()
            association.send(context.context_id, Command(Field.C_ECHO, VERIFICATION, message_id=_REQUEST))
            answer = association.response(_REQUEST)
            answer.drain()
            self._check(answer.command, SUCCESS)
            return time.perf_counter() - began

    def find(self, level: Level, keys: Attributes, limit: int | None = None) -> Iterator[Attributes]:
        """C-FIND: the matches, as they come. keys: the identifier without its level. limit: then it is cancelled."""
        sop_class = _sop_class(Field.C_FIND, level)
        with self._association([ProposedContext(1, sop_class, FALLBACKS)]) as association:
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
        sop_class = _sop_class(Field.C_MOVE, level)
        with self._association([ProposedContext(1, sop_class, FALLBACKS)]) as association:
            self._ask(association, sop_class, Field.C_MOVE, level, keys, destination)
            yield from self._sub_operations(association, Field.C_MOVE)

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
        sop_class = _sop_class(Field.C_GET, level)
        contexts = [ProposedContext(1, sop_class, FALLBACKS), *_storage_contexts(classes)]
        with self._association(contexts, dict.fromkeys(classes, (False, True))) as association:
            self._ask(association, sop_class, Field.C_GET, level, keys)
            yield from self._sub_operations(association, Field.C_GET, store)

    @contextmanager
    def normalized(
        self,
        sop_classes: Sequence[str],
        services: Iterable[Service] = (),
        roles: Mapping[str, tuple[bool, bool]] | None = None,
    ) -> Generator[NormalizedUser, None, None]:
        """DIMSE-N operations, over one association. sop_classes: to ask for, the abstract syntaxes.

        services: what answers the peer's own requests on it. roles: as of ``Proposal``, where we are not the SCU.
        """
        contexts = [ProposedContext(2 * i + 1, uid, FALLBACKS) for i, uid in enumerate(sop_classes)]
        with self._association(contexts, roles) as association:
            yield NormalizedUser(association, self._caller, Services(services), self.timeouts.message_s)

    @property
    def _caller(self) -> Caller:
        return Caller(self.peer.ae_title, f"{self.peer.host}:{self.peer.port}", "dimse")

    def _sub_operations(
        self, association: Association, operation: Field, store: Store | None = None
    ) -> Iterator[Progress]:
        """What the peer says of them, to the end. store: takes those that come on this association."""
        now = Progress()
        while True:
            message = association.receive(self.timeouts.message_s)
            if message is None:
                raise Closed("released by the peer in the middle of a request")
            command = message.command
            if store is not None and command.field == Field.C_STORE:
                serve_store(message, store, self._caller)
                continue
            if command.field != operation | RESPONSE:
                raise ProtocolError("another message than the response that was due", AbortReason.UNEXPECTED_PDU)
            message.drain()
            now = now.after(command)
            if command.status not in _PENDING:
                break
            yield now
        self._check(command, SUCCESS, SUB_OPERATIONS_FAILED)
        if command.status == SUB_OPERATIONS_FAILED and not (now.failed or now.warnings):
            now = replace(now, failed=now.remaining or 1)  # it does not say how many
        yield now

    @contextmanager
    def _association(
        self, contexts: Sequence[ProposedContext], roles: Mapping[str, tuple[bool, bool]] | None = None
    ) -> Generator[Association, None, None]:
        try:
            association = associate(self.peer, self.calling, contexts, self.timeouts, roles)
        except (Closed, ProtocolError) as error:
            raise PeerFailed(str(error)) from error
        try:
            yield association
        except (Closed, ProtocolError) as error:
            association.abort()
            association.close()
            raise PeerFailed(f"{self.peer.ae_title}: {error}") from error
        except PeerFailed:
            end(association)
            raise
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
        raise PeerFailed(f"{self.peer.ae_title} does not offer this service (SOP class {sop_class})")

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
            told = f"{self.peer.ae_title} answered {code} {answer.error_comment or ''}".rstrip()
            raise PeerFailed(told, answer.status)


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


def _sop_class(operation: Field, level: Level) -> str:
    name = "patient-root" if level is Level.PATIENT else "study-root"
    return next(uid for uid, model in MODELS.items() if (model.name, model.field) == (name, operation))
