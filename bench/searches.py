"""Searches of an index that grows: with parameters that give answers as long at every size."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

from bench.headers import DAYS, FIRST_DAY, Plan, Population
from pacs.dimse import negotiation
from pacs.dimse.association import Association
from pacs.dimse.command import HAS_DATA_SET, Command, Field
from pacs.dimse.negotiation import Proposal, ProposedContext
from pacs.dimse.wire import Wire
from tests.server import Server

_STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_EXPLICIT = "1.2.840.10008.1.2.1"
_LIMIT = 50


@dataclass(frozen=True)
class Search:
    """asked: (what to send, least and most rows of the answer). is_growing: the answer grows with the archive."""

    key: str
    title: str
    asked: list[tuple[Any, int, int]]
    is_growing: bool = False


def searches(population: Population, studies: int, count: int) -> list[Search]:
    plans = [population.plan(number) for number in range(studies)]
    random = Random(f"searches/{studies}")
    some = [random.choice(plans) for _ in range(count)]
    return [
        Search("patient", "QIDO studies of one patient", [_studies(PatientID=plan.patient_id) for plan in some]),
        Search("dates", f"QIDO date range of about 100 studies, page of {_LIMIT}", list(_dates(random, plans, count))),
        Search(
            "year",
            "QIDO date range of a year, page of 100",
            [_studies(100, StudyDate=_range(random.randrange(DAYS - 365), 365)) for _ in range(count)],
            is_growing=True,
        ),
        Search("prefix", "QIDO name, AB*, 10 to 50 studies", list(_names(random, plans, count, is_prefix=True))),
        Search("infix", "QIDO name, *ABC*, 1 to 50 studies", list(_names(random, plans, count, is_prefix=False))),
        Search(
            "series",
            "QIDO series of a study",
            [(f"/studies/{plan.study_uid}/series", 1, 100) for plan in _alike(population, plans, random, count)],
        ),
        Search(
            "images",
            "C-FIND images of a study",
            [(plan.study_uid, plan.instances, plan.instances) for plan in _alike(population, plans, random, count)],
        ),
    ]


def _studies(limit: int = 100, least: int = 0, most: int = 10**6, **keys: str) -> tuple[str, int, int]:
    return f"/studies?{urlencode({**keys, 'limit': limit}, quote_via=quote)}", least, min(most, limit)


def _range(first: int, days: int) -> str:
    begin = FIRST_DAY + timedelta(days=first)
    return f"{begin:%Y%m%d}-{begin + timedelta(days=days - 1):%Y%m%d}"


def _dates(random: Random, plans: list[Plan], count: int) -> Iterator[tuple[str, int, int]]:
    days = min(DAYS - 1, max(1, round(100 * DAYS / len(plans))))
    for _ in range(count):
        yield _studies(_LIMIT, StudyDate=_range(random.randrange(DAYS - days), days))


def _names(random: Random, plans: list[Plan], count: int, *, is_prefix: bool) -> Iterator[tuple[str, int, int]]:
    """Parts of names that as many studies have at every size."""
    names = [plan.patient_name.partition("^")[0] for plan in plans]
    found = 0
    seen: dict[str, int] = {}
    tried = 0
    while found < count:
        tried += 1
        name = random.choice(names)
        if is_prefix:
            part = name[: random.randrange(1, len(name) + 1)]
        else:
            start = random.randrange(0, max(1, len(name) - 2))
            part = name[start : start + random.choice((2, 3, 4))]
        if not part.isascii():
            continue
        if part not in seen:
            seen[part] = sum(one.startswith(part) if is_prefix else part in one for one in names)
        least = 10 if is_prefix and tried < 20 * count else 1
        if least <= seen[part] <= 50:
            found += 1
            yield _studies(100, PatientName=f"{part}*" if is_prefix else f"*{part}*", least=seen[part])


def _alike(population: Population, plans: list[Plan], random: Random, count: int) -> list[Plan]:
    """Studies with as many instances at every size: those of the first ones."""
    by_size: dict[int, list[Plan]] = {}
    for plan in plans:
        by_size.setdefault(plan.instances, []).append(plan)
    wanted = Random("sizes")
    return [
        random.choice(by_size[population.plan(wanted.randrange(min(100, len(plans)))).instances]) for _ in range(count)
    ]


class _Web:
    """QIDO-RS over one kept connection."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=120)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, path: str) -> int:
        """Rows of the answer."""
        self._connection.request("GET", f"/dicom-web{path}", headers={"Accept": "application/dicom+json"})
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status in (200, 204), f"{path}: {response.status} {answer[:300]!r}"
        # Every row has one Retrieve URL.
        return answer.count(b'"00081190"')

    def close(self) -> None:
        self._connection.close()


class _Dimse:
    """C-FIND of images over one association; answers are counted, not parsed."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.dimse_port), 30)
        wire = Wire(self._socket, 60)
        proposed = (ProposedContext(1, _STUDY_FIND, (_EXPLICIT,)),)
        wire.send(negotiation.request(Proposal(server.ae_title, "MILLION", proposed, 131072, {})))
        _, length = wire.header()
        accepted = negotiation.parse_accept(bytes((2, 0)) + length.to_bytes(4, "big") + wire.payload(length), proposed)
        self._association = Association(wire, accepted, 131072)
        self._message_id = 0

    def ask(self, study_uid: str) -> int:
        self._message_id = self._message_id % 60000 + 1
        command = Command(
            field=Field.C_FIND,
            sop_class_uid=_STUDY_FIND,
            message_id=self._message_id,
            priority=0,
            data_set_type=HAS_DATA_SET,
        )
        self._association.send(1, command, _identifier(study_uid))
        rows = 0
        while True:
            message = self._association.response(self._message_id)
            if not message.command.has_data_set:
                assert message.command.status == 0, message.command
                return rows
            message.data_set()
            rows += 1

    def close(self) -> None:
        self._socket.close()


def _identifier(study_uid: str) -> bytes:
    def element(tag: tuple[int, int], vr: str, value: str) -> bytes:
        data = value.encode() + (b"" if len(value) % 2 == 0 else b"\0" if vr == "UI" else b" ")
        group, number = tag
        return (
            group.to_bytes(2, "little")
            + number.to_bytes(2, "little")
            + vr.encode()
            + len(data).to_bytes(2, "little")
            + data
        )

    return (
        element((0x0008, 0x0016), "UI", "")
        + element((0x0008, 0x0018), "UI", "")
        + element((0x0008, 0x0052), "CS", "IMAGE")
        + element((0x0020, 0x000D), "UI", study_uid)
        + element((0x0020, 0x000E), "UI", "")
        + element((0x0020, 0x0013), "IS", "")
    )


def measure(server: Server, searches: Sequence[Search]) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of each search: of the first time, and of the second."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    with closing(_Web(server)) as web, closing(_Dimse(server)) as dimse:
        for _ in range(50):
            web.ask("/studies?limit=1")  # the server itself is warm before anything counts
        for search in searches:
            ask: Callable[[Any], int] = dimse.ask if search.key == "images" else web.ask
            passes = []
            for _ in range(2):
                seconds = []
                for asked, least, most in search.asked:
                    began = time.perf_counter()
                    rows = ask(asked)
                    seconds.append(time.perf_counter() - began)
                    assert least <= rows <= most, f"{search.key} {asked}: {rows} rows, not {least} to {most}"
                passes.append(seconds)
            found[search.key] = (passes[0], passes[1])
    return found
