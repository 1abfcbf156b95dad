"""Counting in memory that processes share, and what is made of it."""

import json
import multiprocessing
import re
import threading
import time
from pathlib import Path

import pytest
import yaml

from pacs.cli import top
from pacs.dicom.model import Caller
from pacs.metrics import BUCKETS, Board, Kind, Sampling, quantile
from pacs.watching import Associated, Served
from pacs.web.exposition import _WORDS

OPS = Path(__file__).parents[2] / "docs" / "ops"
CALLER = Caller("CT1", "10.0.0.7:4000", "dimse")


def served(service="C-STORE", status="0000", seconds=0.002, *, is_failure=False):
    return Served(service, "dimse", status, is_failure, service, CALLER, 0.0, seconds, 1000, 10)


def values(board):
    return {(sample.name, sample.labels): sample.values for sample in board.samples()}


def _count_in_child(board, number, count):
    meter = board.meter(number)
    for _ in range(count):
        meter.watch(served())


def test_processes_count_side_by_side_and_one_tells_the_sum():
    board = Board(3)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_count_in_child, args=(board, number, 500 * number)) for number in (1, 2, 3)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    labels = (("service", "C-STORE"), ("protocol", "dimse"))
    found = values(board)
    assert found["pacs_received_bytes", labels] == (3_000_000,)
    assert found["pacs_requests", (*labels, ("status", "0000"), ("outcome", "success"))] == (3000,)
    *counts, total_s = found["pacs_request_duration_seconds", labels]
    assert (sum(counts), counts[1]) == (3000, 3000)  # over 1 ms, up to 2.5 ms
    assert total_s == pytest.approx(6.0)
    assert sorted(board.processes()) == [1, 2, 3]


def test_who_takes_a_dead_workers_place_goes_on_counting_and_holds_nothing():
    board = Board(1)
    before = board.meter(1)
    before.count("stays", 5)
    before.set("goes", 7)
    after = board.meter(1)
    after.count("stays", 1)
    assert values(board) == {("stays", ()): (6,), ("goes", ()): (0,)}


def test_threads_lose_no_count():
    board = Board()
    meter = board.meter()
    threads = [threading.Thread(target=lambda: [meter.watch(served()) for _ in range(2000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(board)["pacs_sent_bytes", (("service", "C-STORE"), ("protocol", "dimse"))] == (160_000,)


def test_associations_are_counted_once_whether_accepted_or_not():
    board = Board()
    meter = board.meter()
    meter.watch(Associated(CALLER, "PACS"))
    meter.watch(Associated(CALLER, "PACS", is_end=True))
    meter.watch(Associated(CALLER, "PACS", "too many"))
    assert values(board) == {
        ("pacs_associations", (("outcome", "accepted"),)): (1,),
        ("pacs_associations", (("outcome", "rejected"),)): (1,),
    }


def test_what_only_grows_is_sampled_by_its_growth():
    board, uses = Board(), [10.0]
    sampling = Sampling(board.meter(), {}, {("uses", ()): lambda: uses[0]})
    sampling.sample()
    uses[0] = 25.0
    sampling.sample()
    # A process that takes its place begins at 0 again.
    Sampling(board.meter(), {}, {("uses", ()): lambda: 5.0}).sample()
    assert values(board)["uses", ()] == (30,)
    assert board.samples()[0].kind is Kind.COUNTER


def test_watching_takes_microseconds():
    meter, event = Board().meter(), served()
    meter.watch(event)
    began = time.perf_counter()
    for _ in range(10_000):
        meter.watch(event)
    assert (time.perf_counter() - began) / 10_000 < 100e-6


@pytest.mark.parametrize(
    ("seconds", "fraction", "expected"),
    [([0.002] * 10, 0.5, (0.001, 0.0025)), ([0.002] * 9 + [7.0], 0.95, (5.0, 10.0)), ([900.0], 0.5, (300.0, 300.0))],
    ids=["all-alike", "one-slow", "beyond"],
)
def test_a_quantile_lies_in_its_bucket(seconds, fraction, expected):
    board = Board()
    meter = board.meter()
    for each in seconds:
        meter.watch(served(seconds=each))
    (durations,) = [sample.values for sample in board.samples() if sample.kind is Kind.HISTOGRAM]
    assert expected[0] <= quantile(durations, fraction) <= expected[1]
    assert quantile([0.0] * (len(BUCKETS) + 2), 0.5) is None


def test_top_takes_a_server_that_was_started_again_for_new():
    text = 'pacs_requests_total{{service="C-ECHO",outcome="success"}} {}\npacs_up 1\n'
    look = top.difference(top.parse(text.format(500), 0.0), top.parse(text.format(4), 2.0))
    assert look["services"][0]["requestsPerSecond"] == 0
    look = top.difference(top.parse(text.format(4), 0.0), top.parse(text.format(10), 2.0))
    assert look["services"][0]["requestsPerSecond"] == 3


def test_dashboard_and_alerts_ask_for_metrics_that_there_are():
    known = {*_WORDS, *(f"{name}_total" for name in _WORDS), "pacs_request_duration_seconds_bucket"}
    dashboard = json.loads((OPS / "grafana-dashboard.json").read_text())
    alerts = yaml.safe_load((OPS / "alerts.yaml").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    names = {name for expression in asked for name in re.findall(r"pacs_[a-z_]+", expression)}
    assert names
    assert names <= known
    assert all(expression.count("(") == expression.count(")") for expression in asked)
    spots = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(spots)) == len(spots)


def test_every_metric_is_in_the_guide():
    guide = (OPS.parent / "monitoring.md").read_text()
    missing = [name for name in _WORDS if name not in guide and not name.startswith("pacs_process_")]
    assert not missing
