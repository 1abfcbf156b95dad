"""An archive that has been at work for a year: what its operator's views have to show."""

from __future__ import annotations

import math
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pacs.index.sqlite import SqliteIndex
from pacs.index.work import JobEnd, NewJob, RecordWrite
from pacs.services.growth import Bucket, Span
from tests import builders
from tests.server import Server
from tests.wire.clients import stow

STUDIES = ("1.2.60.1", "1.2.60.2", "1.2.60.3")
PEERS = """\
[peers.SCANNER1]
host = "127.0.0.1"
port = 1
services = ["store", "worklist", "mpps"]
addresses = ["10.1.0.0/16"]
max_associations = 4

[peers.RIS]
services = ["find"]
"""


def fill(server: Server) -> None:
    """Before it starts: a year's counts, and jobs in all states."""
    database = server.data / "index.sqlite"
    server.data.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    with closing(SqliteIndex(database)) as index:
        for span, number in ((Span.HOUR, 47), (Span.DAY, 364)):
            writes = []
            for back in range(number, 0, -1):
                at = span.begin(now - back * span.length)
                busy = 0.5 + 0.5 * math.sin(back / (4 if span is Span.HOUR else 20))
                many = 40 if span is Span.HOUR else 900
                bucket = Bucket(
                    stored=int(many * busy),
                    deleted=int(many * busy / 6) if back % 7 == 0 else 0,
                    studies=100,
                    instances=1000,
                    size_bytes=(number - back + 1) * 40_000_000,
                )
                key = at.strftime("%Y-%m-%dT%H")
                writes.append(RecordWrite(span.kind, key, bucket.packed(), label=key))
            index.work.write_records(writes)
        index.work.add_jobs([NewJob("send", f"1.2.60.1\\1.2.60.1.{n}", "ARCHIVE2") for n in range(60)])
        now = datetime.now(UTC)
        for job in index.work.claim_jobs("send", now, now + timedelta(minutes=1), 60):
            index.work.end_jobs([JobEnd(job, "the peer refuses the SOP class (0122H)")])
        later = now + timedelta(hours=2)
        index.work.add_jobs(
            [NewJob("webhook", f"https://ris.example/{n}", "https://ris.example", due=later) for n in range(3)]
        )


def store(server: Server) -> None:
    """While it runs: studies of several modalities."""
    for number, study in enumerate(STUDIES):
        modality = ("CT", "MR", "CT")[number]
        files = [
            builders.ct(
                study, f"{study}.1", f"{study}.1.{n}", Modality=modality, PatientID=f"P{number}", rows=64, columns=64
            )
            for n in range(4 - number)
        ]
        assert stow(server, files).status_code == 200


def operated(folder: Path, **settings: str) -> Server:
    """Not started yet."""
    server = Server(folder, {"DIMSE_PEERS": str(folder / "peers.toml"), **settings})
    (folder / "peers.toml").write_text(PEERS)
    server.add_peer("ITSELF", server.dimse_port)
    fill(server)
    return server
