"""Whether a server is ready, and to whom it says why not."""

import requests

from pacs.blobs.base import IDENTITY_KEY
from tests.server import Server, free_port
from tests.wire.receivers import eventually

PASSWORD = "correct horse"  # noqa: S105


def ready(server, auth=None):
    return requests.get(f"{server.http_url}/health/ready", auth=auth, timeout=20)


def test_index_store_and_disk_are_looked_at(tmp_path):
    with Server(tmp_path) as server:
        answer = ready(server)
        assert answer.status_code == 200
        assert {check["name"]: check["isOk"] for check in answer.json()["checks"]} == {
            "index": True,
            "store": True,
            "disk": True,
        }
        identity = server.data / "files" / IDENTITY_KEY
        identity.rename(tmp_path / "elsewhere")  # as if the disk were not mounted
        answer = ready(server)
        assert answer.status_code == 503
        assert "mounted" in answer.json()["problems"][0]
        (tmp_path / "elsewhere").rename(identity)
        assert ready(server).status_code == 200


def test_strangers_are_not_told_what_is_wrong(tmp_path):
    with Server(tmp_path, {"ADMIN_PASSWORD": PASSWORD, "MIN_FREE_BYTES": "900TiB"}) as server:
        answer = ready(server)
        assert answer.status_code == 503
        assert answer.json() == {"status": "unavailable"}
        told = ready(server, ("admin", PASSWORD))
        assert told.status_code == 503
        assert len(told.json()["problems"]) == 1


def test_peers_that_do_not_answer_are_told_of_and_change_nothing(tmp_path):
    server = Server(tmp_path, {"HEALTH_PEERS": "true"})
    server.add_peer("AWAY", free_port())
    with server:
        server.add_peer("ITSELF", server.dimse_port)

        def peers():
            return {check["name"]: check["isOk"] for check in ready(server).json()["checks"] if not check["isNeeded"]}

        eventually(lambda: peers() == {"peer AWAY": False, "peer ITSELF": True}, "both were asked")
        assert ready(server).status_code == 200
