"""What follows a store: rules that forward, tell, label and delete; jobs that survive; the change feed."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests import builders
from tests.server import Server
from tests.wire import clients
from tests.wire.receivers import WebhookServer, eventually

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"
SIGNED_WITH = "a long random text"


def ct(study: str, sop: str, **attributes: object) -> bytes:
    return builders.ct(study, f"{study}.1", sop, **attributes)


def store(server: Server, *files: bytes) -> None:
    answer = clients.stow(server, list(files))
    assert answer.status_code == 200, answer.text


def jobs(server: Server, **query: str) -> list[dict[str, object]]:
    found = requests.get(f"{server.dicomweb_url}/jobs", params=query, timeout=60).json()
    return list(found["jobs"])


def dead(server: Server) -> list[dict[str, object]]:
    return jobs(server, state="dead")


@pytest.fixture(scope="module")
def hook() -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        yield server


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Another archive, that STOW goes to."""
    with Server(tmp_path_factory.mktemp("second")) as server:
        yield server


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clients.StoreScp]:
    with clients.StoreScp(tmp_path_factory.mktemp("reading"), {CT: [EXPLICIT]}, "READING") as scp:
        yield scp


@pytest.fixture(scope="module")
def pacs(
    tmp_path_factory: pytest.TempPathFactory, hook: WebhookServer, second: Server, reading: clients.StoreScp
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("pacs")
    rules = folder / "rules.toml"
    rules.write_text(
        f"""
        [[rule]]
        name = "chest to the reading room"
        match = {{ Modality = "CT", StudyDescription = "*thorax*" }}
        send = ["READING"]

        [[rule]]
        name = "research"
        match = {{ StudyDescription = "research*" }}
        stow = "{second.dicomweb_url}"
        label = ["research", "to-check"]

        [[rule]]
        name = "pass on"
        match = {{ StudyDescription = "passing" }}
        send = "READING"
        stow = "{second.dicomweb_url}"
        delete = "after sending"

        [[rule]]
        name = "told"
        on = "study"
        match = {{ StudyDescription = "told*" }}
        webhook = "{hook.url}"

        [[rule]]
        name = "refused"
        match = {{ StudyDescription = "refused" }}
        send = "READING"
        """
    )
    server = Server(
        folder,
        {
            "RULES": str(rules),
            "STUDY_QUIET_S": "1",
            "WEBHOOK_SECRET": SIGNED_WITH,
            "CHANGES_WEBHOOKS": f"{hook.url}/changes",
        },
    )
    server.add_peer("READING", reading.port)
    with server:
        yield server


def test_what_matches_is_forwarded_as_stored_and_nothing_else(pacs: Server, reading: clients.StoreScp) -> None:
    wanted = ct("1.10", "1.10.1.1", StudyDescription="CT Thorax nativ")
    other = ct("1.11", "1.11.1.1", StudyDescription="Knee")
    store(pacs, wanted, other)
    eventually(lambda: "1.10.1.1" in reading.received(), "the chest CT arrives")
    eventually(lambda: jobs(pacs, kind="send") == [], "no job is left")
    assert reading.received()["1.10.1.1"].data_set == clients.data_set_of(wanted)
    assert "1.11.1.1" not in reading.received()


def test_instances_go_on_by_stow_and_their_studies_are_labelled(pacs: Server, second: Server) -> None:
    files = [ct("1.20", f"1.20.1.{number}", StudyDescription="Research 7") for number in range(3)]
    store(pacs, *files)
    eventually(lambda: len(clients.qido(second, "/studies/1.20/instances")) == 3, "all have arrived")
    labels = f"{pacs.dicomweb_url}/studies/1.20/labels"
    eventually(lambda: requests.get(labels, timeout=60).json() == ["research", "to-check"], "the study is labelled")
    assert requests.delete(f"{labels}/to-check", timeout=60).status_code == 204
    assert requests.put(f"{labels}/seen", timeout=60).status_code == 204
    assert requests.get(labels, timeout=60).json() == ["research", "seen"]
    assert requests.put(f"{pacs.dicomweb_url}/studies/1.2.3.4.5/labels/x", timeout=60).status_code == 404
    assert requests.put(f"{labels}/no%20word", timeout=60).status_code == 400


def test_what_was_sent_everywhere_is_deleted_where_a_rule_says_so(
    pacs: Server, second: Server, reading: clients.StoreScp
) -> None:
    store(pacs, ct("1.30", "1.30.1.1", StudyDescription="passing"))
    eventually(lambda: clients.qido(pacs, "/studies/1.30/instances") == [], "it has gone")
    assert "1.30.1.1" in reading.received()
    assert len(clients.qido(second, "/studies/1.30/instances")) == 1


def test_a_study_that_has_settled_is_told_once_and_signed(pacs: Server, hook: WebhookServer) -> None:
    for number in range(3):
        store(pacs, ct("1.40", f"1.40.1.{number}", StudyDescription="told"))
    told = lambda: [r for r in hook.requests if r.path == "/hook" and r.json()["study"] == "1.40"]  # noqa: E731
    eventually(lambda: bool(told()), "the webhook is told")
    time.sleep(1.5)
    (request,) = told()
    assert request.json()["event"] == "study"  # type: ignore[index]
    signed = f"{request.headers['x-pacs-timestamp']}.".encode() + request.body
    expected = hmac.new(SIGNED_WITH.encode(), signed, hashlib.sha256).hexdigest()
    assert request.headers["x-pacs-signature"] == f"sha256={expected}"


def test_what_a_peer_refuses_for_good_is_given_up_and_shown(pacs: Server) -> None:
    store(pacs, ct("1.50", "1.50.1.1", StudyDescription="refused", SOPClassUID=MR, Modality="MR"))
    eventually(lambda: bool(dead(pacs)), "the job is given up")
    (job,) = dead(pacs)
    assert job["kind"] == "send"
    assert "accepts no transfer syntax" in str(job["error"])
    shown = pacs.pacs("jobs", "--state", "dead")
    assert shown.returncode == 1
    assert str(job["id"]) in shown.stdout
    one = f"{pacs.dicomweb_url}/jobs/{job['id']}"
    assert requests.get(one, timeout=60).json()["group"] == "READING"
    assert requests.post(f"{one}/retry", timeout=60).status_code == 202
    eventually(lambda: bool(dead(pacs)), "it is refused again")
    removed = pacs.pacs("jobs", "--discard", "all", "--json")
    assert json.loads(removed.stdout) == {"jobs": 1}
    assert dead(pacs) == []
    assert requests.get(one, timeout=60).status_code == 404
    assert requests.delete(one, timeout=60).status_code == 404


def test_every_change_is_posted_in_order(pacs: Server, hook: WebhookServer) -> None:
    store(pacs, ct("1.60", "1.60.1.1"))
    assert requests.delete(f"{pacs.dicomweb_url}/studies/1.60", timeout=60).status_code == 204

    def posted() -> list[dict[str, object]]:
        pages = [r.json() for r in hook.requests if r.path == "/hook/changes"]
        return [change for page in pages for change in page["changes"]]  # type: ignore[index]

    eventually(lambda: any(c["study"] == "1.60" and c["kind"] == "deleted" for c in posted()), "it is posted")
    feed = requests.get(f"{pacs.dicomweb_url}/changes", timeout=60).json()["changes"]
    assert posted() == feed[: len(posted())]


def test_the_feed_is_read_in_pages_and_as_a_stream(pacs: Server) -> None:
    store(pacs, *[ct("1.70", f"1.70.1.{number}") for number in range(7)])
    address = f"{pacs.dicomweb_url}/changes"
    whole = requests.get(address, timeout=60).json()
    assert whole["more"] is False
    start = whole["changes"][-6]["cursor"]
    first = requests.get(address, params={"since": start, "limit": 2}, timeout=60).json()
    assert first == {"changes": whole["changes"][-5:-3], "last": whole["changes"][-4]["cursor"], "more": True}
    for wrong, status in (({"since": whole["last"] + 1}, 400), ({"since": "x"}, 400), ({"limit": 0}, 400)):
        assert requests.get(address, params=wrong, timeout=60).status_code == status
    newest = requests.get(address, params={"since": "now"}, timeout=60).json()
    assert newest == {"changes": [], "last": whole["last"], "more": False}
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(start)}
    with requests.get(address, headers=headers, stream=True, timeout=60) as stream:
        lines = stream.iter_lines(decode_unicode=True)
        events = []
        while len(events) < 5:
            line = next(lines)
            if line.startswith("data: "):
                events.append(json.loads(line[6:]))
        assert events == whole["changes"][-5:]
        store(pacs, ct("1.71", "1.71.1.1"))
        while not (line := next(lines)).startswith("data: "):
            pass
        assert json.loads(line[6:])["study"] == "1.71"


def test_a_stream_does_not_keep_a_server_from_stopping(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        address, headers = f"{server.dicomweb_url}/changes", {"Accept": "text/event-stream"}
        with requests.get(address, headers=headers, stream=True, timeout=60) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith(b":")
            assert server.stop() == 0
            assert b"requests_cut=0" in server.log_path.read_bytes()


def test_jobs_wait_for_a_peer_that_is_away_and_survive_a_restart(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nsend = "AWAY"\n')
    scp = clients.StoreScp(tmp_path / "away", {CT: [EXPLICIT]}, "AWAY")
    with Server(tmp_path / "pacs", {"RULES": str(rules)}) as server:
        server.add_peer("AWAY", scp.port)
        store(server, *[ct("1.80", f"1.80.1.{number}") for number in range(10)])
        eventually(lambda: any(job["error"] for job in jobs(server, kind="send")), "the peer is missed")
        eventually(lambda: len(jobs(server, kind="send", state="waiting")) == 10, "all wait")
        server.kill()
        with scp:
            server.start()
            eventually(lambda: len(scp.received()) == 10, "all arrive after the restart", 60)
            eventually(lambda: jobs(server, kind="send") == [], "nothing is left")


@pytest.mark.parametrize("damage", ["cannot be opened", "is cut short"])
def test_an_instance_that_cannot_be_read_does_not_hold_up_the_others(tmp_path: Path, damage: str) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nsend = "LATE"\n')
    with (
        clients.StoreScp(tmp_path / "late", {CT: [EXPLICIT]}, "LATE") as scp,
        Server(tmp_path / "pacs", {"RULES": str(rules)}) as server,
    ):
        for number in range(4):
            store(server, ct("1.85", f"1.85.1.{number}", size_bytes=3 << 20))
        first = next(path for path in server.files() if "1.85.1.0" in path.name)
        if damage == "is cut short":
            os.truncate(first, 2 << 20)
        else:
            first.unlink()
            first.mkdir()
        server.add_peer("LATE", scp.port)
        eventually(lambda: {f"1.85.1.{number}" for number in (1, 2, 3)} <= set(scp.received()), "the others arrive", 30)
        eventually(lambda: len(jobs(server, kind="send")) == 1, "only the damaged one is left")
        (left,) = jobs(server, kind="send")
        assert "1.85.1.0" in str(left["about"])
        eventually(lambda: bool(jobs(server, kind="send")[0]["error"]), "what is wrong is said")


def test_rules_are_checked_before_they_are_used(pacs: Server, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    good = tmp_path / "ct.dcm"
    good.write_bytes(ct("1.90", "1.90.1.1", StudyDescription="Thorax"))
    rules.write_text('[[rule]]\nname = "a"\nmatch = { StudyDescription = "thorax" }\nsend = "READING"\n')
    run = pacs.pacs("rules", "test", str(rules), str(good), "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["files"] == [{"file": str(good), "rules": ["a"]}]
    rules.write_text('[[rule]]\nname = "a"\nmatch = { Modallity = "CT" }\nsend = "READING"\n')
    run = pacs.pacs("rules", "test", str(rules))
    assert run.returncode == 2
    assert "rule 1 (a)" in run.stderr
    assert "Modallity" in run.stderr
    with pytest.raises(AssertionError, match="Modallity"):
        Server(tmp_path / "other", {"RULES": str(rules)}).start()
