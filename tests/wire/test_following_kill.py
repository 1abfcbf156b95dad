"""SIGKILL while rules forward: each instance arrives at least once, and nothing is given up that could be sent."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest
import requests

from tests import builders
from tests.server import Server
from tests.wire import clients
from tests.wire.receivers import eventually

KILLS = 30
SEED = 20261129
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_nothing_is_lost_on_its_way_over_thirty_kills(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nsend = "FAR"\n')
    chance = random.Random(SEED)
    acknowledged: dict[str, str] = {}  # SOP Instance UID → SOP class
    stopped = threading.Event()
    server = Server(tmp_path / "pacs", {"RULES": str(rules)})

    def store_on() -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            # Every tenth of a class that the peer does not take.
            sop_class = MR if number % 10 == 0 else CT
            sop_uid = f"1.2.{number}.1"
            file = builders.ct(f"1.2.{number % 7 + 1}", f"1.2.{number % 7 + 1}.1", sop_uid, SOPClassUID=sop_class)
            while not stopped.is_set():
                try:
                    if clients.stow(server, [file]).status_code == 200:
                        acknowledged[sop_uid] = sop_class
                        break
                except requests.RequestException:
                    pass
                time.sleep(0.02)

    with clients.StoreScp(tmp_path / "far", {CT: [EXPLICIT]}, "FAR") as scp:
        server.add_peer("FAR", scp.port)
        server.start()
        storing = threading.Thread(target=store_on)
        storing.start()
        try:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.1, 0.8))
                server.kill()
                server.start()
        finally:
            stopped.set()
            storing.join(60)
        try:
            assert len(acknowledged) > 100
            wanted = {uid for uid, sop_class in acknowledged.items() if sop_class == CT}
            refused = {uid for uid, sop_class in acknowledged.items() if sop_class == MR}
            eventually(lambda: wanted <= set(scp.received()), "every instance arrives", 150)
            address = f"{server.dicomweb_url}/jobs"

            def left(state: str) -> list[dict[str, str]]:
                query = {"kind": "send", "state": state, "limit": "1000"}
                return list(requests.get(address, params=query, timeout=60).json()["jobs"])

            eventually(lambda: left("waiting") == left("running") == [], "no job is left", 120)
            # In the end dead letters are what the peer refuses for good, and nothing else. A store that was never
            # acknowledged may have been taken all the same.
            dead = {job["about"].rpartition("/")[2].rpartition("-")[0] for job in left("dead")}
            assert refused <= dead
            assert not dead & wanted
            assert all("accepts no transfer syntax" in job["error"] for job in left("dead"))
        finally:
            server.stop()
