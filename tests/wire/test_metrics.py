"""What a server counts, over the wire: the sum of all its processes, in forms that Prometheus reads."""

import os
import signal
from pathlib import Path

import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from pacs.metrics import Board
from tests.builders import ct, data_set_of
from tests.server import Server
from tests.wire.clients import association, qido, sop_uid_of, store_bytes, stow
from tests.wire.receivers import eventually


def scrape(server, accept="text/plain"):
    answer = requests.get(f"{server.http_url}/metrics", headers={"Accept": accept}, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer


def values(server):
    """Values by name and labels."""
    families = list(read_text(scrape(server).text))
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def total(found, name, **labels):
    return sum(number for (named, its), number in found.items() if named == name and set(labels.items()) <= its)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("metrics"), {"SERVER_WORKERS": "2"}) as server:
        yield server


def test_whichever_process_is_asked_tells_the_sum_of_all(server):
    def workers():
        return {dict(labels)["worker"] for name, labels in values(server) if name == "pacs_process_threads"}

    before = values(server)
    for _ in range(12):  # each on a connection of its own: both processes take some
        assert qido(server, "/studies") == []
    assert workers() == {"1", "2"}
    for _ in range(6):
        after = values(server)
        asked = [total(each, "pacs_requests_total", service="QIDO-RS", outcome="success") for each in (before, after)]
        assert asked[1] - asked[0] == 12
    assert total(after, "pacs_request_duration_seconds_count", service="QIDO-RS", protocol="web") >= 12


def test_stores_by_either_protocol_are_counted_with_their_bytes_and_statuses(server):
    before = values(server)
    files = [ct(), ct()]
    assert stow(server, files[:1]).status_code == 200
    with association(server) as opened:
        assert store_bytes(opened, data_set_of(files[1]), sop_uid_of(files[1])) == 0
        assert store_bytes(opened, b"no data set", "1.2.3.4") >> 12 in (0xA, 0xC)
        eventually(lambda: total(values(server), "pacs_open_associations") == 1, "an open association is shown")
    after = values(server)

    def grown(name, **labels):
        return total(after, name, **labels) - total(before, name, **labels)

    assert grown("pacs_requests_total", service="C-STORE", protocol="dimse", status="0000", outcome="success") == 1
    assert grown("pacs_requests_total", service="C-STORE", outcome="failure") == 1
    assert grown("pacs_requests_total", service="STOW-RS", protocol="web", status="200") == 1
    size_bytes = len(data_set_of(files[1]))
    assert size_bytes <= grown("pacs_received_bytes_total", service="C-STORE") < size_bytes + 1000
    assert len(files[0]) <= grown("pacs_received_bytes_total", service="STOW-RS") < len(files[0]) + 1000
    assert grown("pacs_associations_total", outcome="accepted") == 1
    assert grown("pacs_stored", level="instances") == 2
    assert total(after, "pacs_index_bytes") > 0
    assert total(after, "pacs_disk_free_bytes") > 0
    assert total(after, "pacs_up") == 1
    eventually(lambda: total(values(server), "pacs_open_associations") == 0, "it is gone when it was released")


def test_openmetrics_is_given_to_those_who_ask_for_it(server):
    answer = scrape(server, "application/openmetrics-text; version=1.0.0")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    names = {family.name for family in read_openmetrics(answer.text)}
    assert {"pacs_requests", "pacs_request_duration_seconds", "pacs_build_info"} <= names


def test_names_that_strangers_make_up_are_no_series(server):
    for number in range(5):
        requests.get(f"{server.http_url}/no/such/{number}", timeout=20)
    text = scrape(server).text
    assert "no/such" not in text
    assert 'service="other"' in text


def test_a_worker_that_died_does_not_take_its_counts_along(server):
    asked = total(values(server), "pacs_requests_total", service="QIDO-RS")
    children = [int(pid) for pid in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()]
    os.kill(children[0], signal.SIGKILL)
    eventually(lambda: "worker started again" in server.log(), "it is started again")
    assert total(values(server), "pacs_requests_total", service="QIDO-RS") == asked


def test_where_anybody_could_ask_metrics_are_told_only_when_that_is_set(tmp_path):
    with Server(tmp_path / "a", {"ADMIN_API": "false", "SERVER_HOST": "127.0.0.1"}) as server:
        assert requests.get(f"{server.http_url}/metrics", timeout=20).status_code == 403
    with Server(tmp_path / "b", {"ADMIN_API": "false", "METRICS_PUBLIC": "true"}) as server:
        assert requests.get(f"{server.http_url}/metrics", timeout=20).status_code == 200


def test_a_board_that_is_full_goes_on_without_new_series():
    board = Board()
    meter = board.meter()
    meter.count("kept", 2)
    for number in range(20_000):
        meter.count("many", 1, (("number", f"{number:0100d}"),))
    meter.count("kept", 3)
    samples = board.samples()
    assert next(sample.values for sample in samples if sample.name == "kept") == (5.0,)
    assert 1000 < len(samples) < 20_000
