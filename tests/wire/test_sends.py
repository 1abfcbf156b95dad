"""Sending to a peer because somebody asked for it: progress, refusals, peers that are away, cancelling, and SIGKILL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import builders
from tests.server import Server, free_port
from tests.wire import clients
from tests.wire.receivers import eventually

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"
STUDY = "1.2.70.1"


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clients.StoreScp]:
    with clients.StoreScp(tmp_path_factory.mktemp("far"), {CT: [EXPLICIT]}, "FAR") as scp:
        yield scp


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory, far: clients.StoreScp) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("pacs"))
    server.add_peer("FAR", far.port)
    server.add_peer("AWAY", free_port())
    with server:
        yield server


def store(server: Server, study: str, count: int, **attributes: Any) -> list[str]:
    """SOP Instance UIDs of a new study of one series."""
    sops = [f"{study}.1.{number}" for number in range(count)]
    for start in range(0, count, 100):
        files = [builders.ct(study, f"{study}.1", sop, **attributes) for sop in sops[start : start + 100]]
        assert clients.stow(server, files).status_code == 200
    return sops


def send(server: Server, peer: str, *targets: dict[str, str]) -> str:
    answer = requests.post(f"{server.dicomweb_url}/peers/{peer}/send", json={"targets": list(targets)}, timeout=60)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def state(server: Server, send_id: str) -> dict[str, Any]:
    answer = requests.get(f"{server.dicomweb_url}/sends/{send_id}", timeout=60)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ended(server: Server, send_id: str, within_s: float = 60) -> dict[str, Any]:
    eventually(lambda: bool(state(server, send_id)["ended"]), "the send ends", within_s)
    return state(server, send_id)


def test_a_study_of_several_bundles_arrives_and_is_counted(pacs: Server, far: clients.StoreScp) -> None:
    sops = store(pacs, STUDY, 130)
    found = ended(pacs, send(pacs, "FAR", {"study": STUDY}))
    assert {
        name: found[name] for name in ("peer", "total", "sent", "failures", "left", "state", "failed", "error")
    } == {
        **{"peer": "FAR", "total": 130, "sent": 130, "failures": 0, "left": 0},
        **{"state": "done", "failed": [], "error": ""},
    }
    assert found["began"] <= found["ended"]
    assert set(sops) <= set(far.received())


def test_one_instance_and_one_series_are_sent_and_nothing_beside_them(pacs: Server, far: clients.StoreScp) -> None:
    first, *others = store(pacs, "1.2.70.2", 3)
    assert clients.stow(pacs, [builders.ct("1.2.70.2", "1.2.70.2.9", "1.2.70.2.9.1")]).status_code == 200
    targets = [
        {"study": "1.2.70.2", "series": "1.2.70.2.1", "sop": first},
        {"study": "1.2.70.2", "series": "1.2.70.2.9"},
        {"study": "1.2.70.2", "series": "1.2.70.2.9", "sop": "1.2.70.2.9.1"},  # twice asked for, once sent
    ]
    assert ended(pacs, send(pacs, "FAR", *targets))["sent"] == 2
    received = set(far.received())
    assert {first, "1.2.70.2.9.1"} <= received
    assert not received & set(others)


def test_what_the_peer_refuses_is_named_and_can_be_tried_again(pacs: Server) -> None:
    taken, refused = store(pacs, "1.2.70.3", 1), store(pacs, "1.2.70.4", 2, SOPClassUID=MR)
    send_id = send(pacs, "FAR", {"study": "1.2.70.3"}, {"study": "1.2.70.4"})
    found = ended(pacs, send_id)
    assert (found["state"], found["sent"], found["failures"], found["left"]) == ("failed", len(taken), 2, 0)
    assert {one["sop"] for one in found["failed"]} == set(refused)
    assert all("accepts no transfer syntax" in one["reason"] for one in found["failed"])

    assert requests.post(f"{pacs.dicomweb_url}/sends/{send_id}/retry", timeout=60).status_code == 202
    again = ended(pacs, send_id)
    assert (again["state"], again["total"], again["sent"], again["failures"]) == ("failed", 3, 1, 2)


def test_a_peer_that_is_away_is_tried_again_and_said_to_be(pacs: Server, tmp_path: Path) -> None:
    sops = store(pacs, "1.2.70.5", 2)
    with clients.StoreScp(tmp_path / "late", {CT: [EXPLICIT]}, "LATE") as scp:
        port = scp.port
    pacs.add_peer("LATE", port)
    send_id = send(pacs, "LATE", {"study": "1.2.70.5"})
    eventually(lambda: state(pacs, send_id)["state"] == "waiting", "it is said to wait")
    found = state(pacs, send_id)
    assert "cannot be reached" in found["error"]
    assert found["next_attempt"]
    assert found["left"] == 2
    late = clients.StoreScp(tmp_path / "late", {CT: [EXPLICIT]}, "LATE")
    late.port = port
    with late:
        assert requests.post(f"{pacs.dicomweb_url}/sends/{send_id}/retry", timeout=60).status_code == 202
        assert ended(pacs, send_id)["state"] == "done"
        assert set(late.received()) == set(sops)


def test_what_is_cancelled_is_not_sent_and_stays_cancelled(pacs: Server) -> None:
    store(pacs, "1.2.70.6", 2)
    send_id = send(pacs, "AWAY", {"study": "1.2.70.6"})
    eventually(lambda: state(pacs, send_id)["state"] == "waiting", "it waits")
    for _ in range(2):
        assert requests.delete(f"{pacs.dicomweb_url}/sends/{send_id}", timeout=60).status_code == 204
    found = state(pacs, send_id)
    assert (found["state"], found["sent"], found["left"]) == ("cancelled", 0, 2)
    jobs = requests.get(f"{pacs.dicomweb_url}/jobs", params={"kind": "send-asked"}, timeout=60).json()["jobs"]
    assert jobs == []
    assert requests.post(f"{pacs.dicomweb_url}/sends/{send_id}/retry", timeout=60).status_code == 409


def test_what_has_been_deleted_meanwhile_is_named(pacs: Server, tmp_path: Path) -> None:
    kept, gone = store(pacs, "1.2.70.7", 2)
    with clients.StoreScp(tmp_path / "then", {CT: [EXPLICIT]}, "THEN") as scp:
        port = scp.port
    pacs.add_peer("THEN", port)
    send_id = send(pacs, "THEN", {"study": "1.2.70.7"})
    eventually(lambda: state(pacs, send_id)["state"] == "waiting", "it waits")
    path = f"{pacs.dicomweb_url}/studies/1.2.70.7/series/1.2.70.7.1/instances/{gone}"
    assert requests.delete(path, timeout=60).status_code == 204
    then = clients.StoreScp(tmp_path / "then", {CT: [EXPLICIT]}, "THEN")
    then.port = port
    with then:
        requests.post(f"{pacs.dicomweb_url}/sends/{send_id}/retry", timeout=60)
        found = ended(pacs, send_id)
        assert set(then.received()) == {kept}
    assert found["failed"] == [
        {"study": "1.2.70.7", "series": "1.2.70.7.1", "sop": gone, "reason": "it has been deleted"}
    ]


def test_recent_sends_come_the_newest_first(pacs: Server) -> None:
    store(pacs, "1.2.70.8", 1)
    ids = []
    for _ in range(3):
        ids.append(send(pacs, "FAR", {"study": "1.2.70.8"}))
        time.sleep(0.005)
    for one in ids:
        ended(pacs, one)
    listed = requests.get(f"{pacs.dicomweb_url}/sends", timeout=60).json()["sends"]
    assert [one["id"] for one in listed[:3]] == ids[::-1]
    assert all(one["state"] == "done" and one["sent"] == 1 and "failed" not in one for one in listed[:3])


@pytest.mark.parametrize(
    ("peer", "body", "status"),
    [
        ("NOBODY", {"targets": [{"study": STUDY}]}, 404),
        ("FAR", {"targets": [{"study": "1.2.404"}]}, 404),
        ("FAR", {"targets": []}, 400),
        ("FAR", {"targets": [{"study": "1.2\\3"}]}, 400),
        ("FAR", {"targets": [{"study": STUDY, "sop": "1.2"}]}, 400),
        ("FAR", {"targets": [7]}, 400),
        ("FAR", [], 400),
    ],
    ids=["no peer", "no study", "no target", "no uid", "no series", "no object", "no body"],
)
def test_what_cannot_be_sent_is_answered_at_once(pacs: Server, peer: str, body: Any, status: int) -> None:
    answer = requests.post(f"{pacs.dicomweb_url}/peers/{peer}/send", json=body, timeout=60)
    assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)


def test_a_send_that_is_not_there_is_not_found(pacs: Server) -> None:
    address = f"{pacs.dicomweb_url}/sends/0f3a"
    assert requests.get(address, timeout=60).status_code == 404
    assert requests.delete(address, timeout=60).status_code == 404
    assert requests.post(f"{address}/retry", timeout=60).status_code == 404


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_send_goes_on_after_sigkill_and_loses_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path / "pacs")
    with clients.StoreScp(tmp_path / "far", {CT: [EXPLICIT]}, "FAR") as scp:
        server.add_peer("FAR", scp.port)
        server.start()
        try:
            sops = store(server, "1.2.71", 900)
            send_id = send(server, "FAR", {"study": "1.2.71"})
            eventually(lambda: len(list(scp.folder.iterdir())) > 30, "some have arrived")
            server.kill()
            assert len(scp.received()) < 900
            server.start()
            found = ended(server, send_id, 120)
            assert (found["state"], found["sent"], found["failures"]) == ("done", 900, 0)
            assert set(scp.received()) == set(sops)
        finally:
            server.stop()
