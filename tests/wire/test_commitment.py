"""Storage commitment: a real server, and pynetdicom that asks it, is asked by it, and is told (PS3.4 J)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pydicom.dataset import Dataset
from pynetdicom.association import Association

from pacs.dicom.uids import new_uid
from tests import builders
from tests.builders import CT_IMAGE_STORAGE
from tests.server import Server, free_port
from tests.wire.clients import qido, stow
from tests.wire.committing import (
    Told,
    ask,
    associated,
    committed_in,
    cts,
    eventually,
    failed_in,
    later,
    listening,
    report,
    send_report,
)

MR = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two processes: what one has taken in, the other may have to answer."""
    folder = tmp_path_factory.mktemp("archive")
    rules = folder / "rules.toml"
    rules.write_text(
        '[[rule]]\nmatch = { StudyDescription = "passing" }\nsend = ["ELSEWHERE"]\ncommit = true\n'
        'delete = "after sending"\n'
        '[[rule]]\nname = "the same"\nmatch = { StudyDescription = "passing" }\nsend = ["ELSEWHERE"]\n'
    )
    env = {"SERVER_WORKERS": "2", "DICOM_STORE_FILEPATH": "{0020000D}/{00080018}", "RULES": str(rules)}
    with Server(folder, env) as server:
        yield server


@pytest.fixture(scope="module")
def told(server: Server) -> Iterator[Told]:
    told = Told()
    with listening(told) as port:
        server.add_peer("PYNET", port)
        yield told


def store(server: Server, count: int, **attributes: Any) -> tuple[str, list[str]]:
    """Study and SOP Instance UIDs of new CT slices."""
    study_uid, sop_uids = new_uid(), [new_uid() for _ in range(count)]
    assert stow(server, [builders.ct(study_uid, sop_uid=uid, **attributes) for uid in sop_uids]).status_code == 200
    return study_uid, sop_uids


def file_of(server: Server, sop_uid: str) -> Path:
    (path,) = (path for path in server.files() if path.name.startswith(sop_uid))
    return path


def is_put_off(server: Server, kind: str) -> bool:
    """Whether a job has been tried, and waits."""
    query = {"kind": kind, "state": "waiting"}
    answer = requests.get(f"{server.dicomweb_url}/jobs", params=query, timeout=60).json()
    return any(job["attempts"] for job in answer["jobs"])


# -- we are asked ------------------------------------------------------------------------------------------------------


def test_a_peer_that_stays_is_told_on_its_own_association(server: Server) -> None:
    _, sop_uids = store(server, 3)
    told = Told()
    with associated(server, told, "NOBODY") as association:  # in no list of peers
        status, uid = ask(association, cts(sop_uids))
        assert status == 0
        ((event_type, result),) = eventually(lambda: told.of(uid))
    assert event_type == 1
    assert committed_in(result) == sop_uids
    assert result.RetrieveAETitle == "DCMQRSCP"
    assert "FailedSOPSequence" not in result


def test_what_is_not_there_to_stay_is_not_committed(server: Server) -> None:
    _, (sound, other, damaged, short, lost) = store(server, 5)
    gone_study, (gone,) = store(server, 1)
    assert requests.delete(f"{server.dicomweb_url}/studies/{gone_study}", timeout=60).status_code == 204
    content = bytearray(file_of(server, damaged).read_bytes())
    content[-1] ^= 1
    file_of(server, damaged).write_bytes(content)
    file_of(server, short).write_bytes(file_of(server, short).read_bytes()[:-2])
    file_of(server, lost).unlink()
    never = new_uid()
    told = Told()
    with associated(server, told) as association:
        refs = [*cts([gone, sound, never, damaged, short, lost]), (MR, other)]
        status, uid = ask(association, refs)
        assert status == 0
        ((event_type, result),) = eventually(lambda: told.of(uid))
    assert event_type == 2
    assert committed_in(result) == [sound]
    assert failed_in(result) == {
        **dict.fromkeys((gone, never), 0x0112),
        **dict.fromkeys((damaged, short, lost), 0x0110),
        other: 0x0119,
    }
    assert f"stored file damaged sop={damaged}" in server.log()


def test_a_peer_that_has_released_is_told_on_an_association_of_ours(server: Server, told: Told) -> None:
    _, sop_uids = store(server, 2)
    own = Told()
    with associated(server, own) as association:
        _, uid = ask(association, cts(sop_uids))
    ((event_type, result),) = eventually(lambda: told.of(uid))
    assert (event_type, committed_in(result)) == (1, sop_uids)
    assert told.proposed[-1] == "DCMQRSCP"
    assert own.reports == []
    assert len(told.of(uid)) == 1


def test_a_peer_that_asks_again_is_told_again(server: Server, told: Told) -> None:
    _, sop_uids = store(server, 1)
    own = Told()
    with associated(server, own) as association:
        _, uid = ask(association, cts(sop_uids))
        eventually(lambda: own.of(uid))
        assert ask(association, cts([*sop_uids, new_uid()]), uid)[0] == 0x0115, "another request"
        assert ask(association, cts(sop_uids), uid)[0] == 0
        eventually(lambda: len(own.of(uid)) == 2)
    with associated(server, own, "OTHER") as association:
        assert ask(association, cts(sop_uids), uid)[0] == 0x0115, "another peer"


def test_requests_that_mean_nothing_are_refused(server: Server) -> None:
    _, (sop_uid,) = store(server, 1)
    without = Dataset()
    without.ReferencedSOPClassUID = CT_IMAGE_STORAGE
    refused: list[tuple[dict[str, Any], int]] = [
        ({"action_type": 2}, 0x0123),
        ({"instance": "1.2.3"}, 0x0112),
        ({"TransactionUID": None}, 0x0115),
        ({"ReferencedSOPSequence": None}, 0x0115),
        ({"ReferencedSOPSequence": []}, 0x0115),
        ({"ReferencedSOPSequence": [without]}, 0x0115),
    ]
    told = Told()
    with associated(server, told) as association:
        for changes, expected in refused:
            status, _ = ask(association, cts([sop_uid]), **changes)
            assert status == expected, changes
        status, uid = ask(association, cts([sop_uid]))
        assert status == 0
        eventually(lambda: told.of(uid))
    assert len(told.reports) == 1


def test_a_peer_nobody_knows_is_told_once_it_is_known(server: Server) -> None:
    _, sop_uids = store(server, 1)
    told = Told()
    with listening(told) as port:
        with associated(server, ae_title="STRANGER") as association:
            _, uid = ask(association, cts(sop_uids))
        eventually(lambda: "STRANGER asked for storage commitment and is no known peer" in server.log())
        server.add_peer("STRANGER", port)
        eventually(lambda: told.of(uid))


# -- we ask ------------------------------------------------------------------------------------------------------------


def ask_peer(server: Server, peer: str, study_uid: str) -> str:
    answer = requests.post(f"{server.dicomweb_url}/commitments", json={"peer": peer, "study": study_uid}, timeout=60)
    assert answer.status_code == 202, answer.text
    uid: str = answer.json()["transaction"]
    return uid


def asked(server: Server, uid: str) -> dict[str, Any]:
    answer = requests.get(f"{server.dicomweb_url}/commitments/{uid}", timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refs_of(request: Dataset) -> list[tuple[str, str]]:
    return [(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in request.ReferencedSOPSequence]


def test_a_peer_is_asked_and_may_answer_on_the_same_association(server: Server) -> None:
    study_uid, sop_uids = store(server, 3)

    def answer(request: Dataset, association: Association) -> int:
        def tell() -> None:
            time.sleep(0.3)  # until it has its answer
            send_report(association, request.TransactionUID, refs_of(request))

        later(tell)
        return 0

    told = Told(answer=answer)
    with listening(told) as port:
        server.add_peer("SAME", port)
        uid = ask_peer(server, "SAME", study_uid)
        eventually(lambda: asked(server, uid)["state"] == "committed")
    (request,) = told.asked
    assert request.TransactionUID == uid
    assert sorted(refs_of(request)) == sorted(cts(sop_uids))
    assert told.proposed == ["DCMQRSCP"]


def test_a_peer_may_answer_later_on_an_association_of_its_own(server: Server) -> None:
    study_uid, (first, second, third) = store(server, 3)
    told = Told()
    with listening(told) as port:
        server.add_peer("LATER", port)
        uid = ask_peer(server, "LATER", study_uid)
        eventually(lambda: told.asked)
    eventually(lambda: asked(server, uid)["state"] == "asked")
    failed = [(CT_IMAGE_STORAGE, second, 0x0213)]
    assert report(server.dimse_port, new_uid(), cts([first]), failed) == 0x0115, "never asked"
    assert report(server.dimse_port, uid, cts([first]), failed, event_type=3) == 0x0113
    assert report(server.dimse_port, uid, cts([first]), failed) == 0
    found = asked(server, uid)
    assert (found["state"], found["instances"], found["failures"]) == ("failed", 3, 2)
    reasons = {each["instance"]: each["reason"] for each in found["failed"]}
    assert reasons == {second: "0213H", third: "0110H"}, "what is not spoken of is not committed"
    assert report(server.dimse_port, uid, cts([first, second, third])) == 0
    assert asked(server, uid) == found, "the first answer counts"
    listed = requests.get(f"{server.dicomweb_url}/commitments", params={"state": "failed"}, timeout=60).json()
    assert uid in [each["transaction"] for each in listed["commitments"]]
    shown = server.pacs("commitments", "--state", "failed", "--json")
    assert shown.returncode == 1, "for a monitor"
    assert uid in [each["transaction"] for each in json.loads(shown.stdout)]
    assert "3 instances, 2 not committed" in server.pacs("commitments").stdout


def test_a_peer_that_refuses_is_asked_again_under_another_uid(server: Server) -> None:
    study_uid, _ = store(server, 1)
    told = Told(answer=lambda request, association: 0x0213)
    with listening(told) as port:
        server.add_peer("REFUSING", port)
        uid = ask_peer(server, "REFUSING", study_uid)
        eventually(lambda: asked(server, uid)["state"] == "repeated")
    assert asked(server, asked(server, uid)["next"])["state"] == "waiting"
    assert f"no commitment transaction={uid} peer=REFUSING reason=REFUSING answered 0213H" in server.log()


def test_a_rule_deletes_only_what_the_peer_has_committed(server: Server) -> None:
    lost: set[str] = set()

    def answer(request: Dataset, association: Association) -> int:
        committed = [ref for ref in refs_of(request) if ref[1] not in lost]
        failed = [(*ref, 0x0110) for ref in refs_of(request) if ref[1] in lost]
        later(lambda: report(server.dimse_port, request.TransactionUID, committed, failed))
        return 0

    told = Told(answer=answer)
    with listening(told, ae_title="ELSEWHERE") as port:
        server.add_peer("ELSEWHERE", port)
        study_uid, sop_uids = store(server, 3, StudyDescription="passing")
        eventually(lambda: qido(server, "/instances", {"StudyInstanceUID": study_uid}) == [])
        assert set(told.stored) == set(sop_uids)
        assert sorted(ref for request in told.asked for ref in refs_of(request)) == sorted(cts(sop_uids))
        lost.add(uid := new_uid())
        passing = builders.ct(study_uid, sop_uid=uid, StudyDescription="passing")
        assert stow(server, [passing]).status_code == 200
        eventually(lambda: f"not all committed transaction={told.asked[-1].TransactionUID}" in server.log())
    assert uid in told.stored
    assert len(qido(server, "/instances", {"StudyInstanceUID": study_uid})) == 1


def test_what_cannot_be_asked_is_told_at_once(server: Server, told: Told) -> None:
    study_uid, _ = store(server, 1)
    url = f"{server.dicomweb_url}/commitments"
    wrong: list[tuple[Any, int]] = [
        ({"peer": "NONE", "study": study_uid}, 400),
        ({"peer": "PYNET"}, 400),
        ({"peer": "PYNET", "study": "a b"}, 400),
        ({"peer": "PYNET", "study": study_uid, "instance": "1.2"}, 400),
        ([], 400),
        ({"peer": "PYNET", "study": new_uid()}, 404),
    ]
    for body, status in wrong:
        assert requests.post(url, json=body, timeout=60).status_code == status, body
    assert requests.get(f"{url}/{new_uid()}", timeout=60).status_code == 404
    for query in ("state=gone", "limit=0", "limit=x"):
        assert requests.get(f"{url}?{query}", timeout=60).status_code == 400


# -- both, and restarts in between -------------------------------------------------------------------------------------


def test_both_sides_may_restart_between_request_and_result(tmp_path: Path) -> None:
    server = Server(tmp_path / "archive", {"COMMITMENT_WAIT_S": "0.5", "COMMITMENT_AGAIN_S": "1"})
    asking, slow = free_port(), free_port()
    server.add_peer("PYNET", asking)
    server.add_peer("SLOW", slow)
    with server:
        study_uid, sop_uids = store(server, 2)
        first = ask_peer(server, "SLOW", study_uid)
        eventually(lambda: is_put_off(server, "commitment-request"))
        with associated(server) as association:
            _, uid = ask(association, cts(sop_uids))
            server.kill()  # before it can have answered: pynetdicom has just been told 0000H
        server.start()
        eventually(lambda: is_put_off(server, "commitment") and is_put_off(server, "commitment-request"))
        server.kill()
        server.start()
        told, silent = Told(), Told()
        with listening(told, asking), listening(silent, slow):
            # So long in case a job was being done when the server was killed: its lease has to end.
            ((event_type, result),) = eventually(lambda: told.of(uid), 90)
            assert (event_type, committed_in(result)) == (1, sop_uids)
            eventually(lambda: len(silent.asked) >= 2, 90)
        last = asked(server, first)
        while last["next"]:
            assert last["state"] == "repeated"
            last = asked(server, last["next"])
        assert last["rounds"] >= 2
        # Late, and to the first question: it answers those that followed.
        assert report(server.dimse_port, first, cts(sop_uids)) == 0
        assert {asked(server, each)["state"] for each in (first, last["transaction"])} == {"committed"}
