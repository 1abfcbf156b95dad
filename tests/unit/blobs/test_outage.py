"""A server that is away is waited for by one call at a time."""

from __future__ import annotations

import threading
import time

import pytest

from pacs.blobs import outage
from pacs.blobs.outage import Outage
from pacs.errors import NotFound, OutOfResources


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Outage:
    monkeypatch.setattr(outage, "_PAUSE_S", 0.2)
    monkeypatch.setattr(outage, "_SLOW_S", 0.05)
    return Outage("it is away")


def fail(watched: Outage, seconds: float, message: str = "no answer") -> None:
    @watched.watched()
    def ask() -> None:
        time.sleep(seconds)
        raise OutOfResources("no answer")

    with pytest.raises(OutOfResources, match=message):
        ask()


def test_what_fails_at_once_may_be_tried_at_once(watched: Outage) -> None:
    for _ in range(3):
        fail(watched, 0)
    with watched.watched():
        pass


def test_after_waiting_in_vain_calls_fail_at_once_until_one_succeeds(watched: Outage) -> None:
    fail(watched, 0.06)
    begin = time.monotonic()
    for _ in range(100):
        fail(watched, 60, "it is away")
    assert time.monotonic() - begin < 0.1
    time.sleep(0.2)
    fail(watched, 0)  # the one that tries; its failing counts, quick or not
    fail(watched, 60, "it is away")
    time.sleep(0.2)
    with watched.watched():
        pass
    with watched.watched():
        pass


def test_a_file_that_is_not_there_is_an_answer(watched: Outage) -> None:
    fail(watched, 0.06)
    time.sleep(0.2)
    with pytest.raises(NotFound), watched.watched():
        raise NotFound("no such file")
    with watched.watched():
        pass


def test_only_one_tries_and_the_others_do_not_wait_for_it(watched: Outage) -> None:
    fail(watched, 0.06)
    time.sleep(0.2)
    entered, go_on = threading.Event(), threading.Event()

    def try_it() -> None:
        with watched.watched():
            entered.set()
            go_on.wait(60)

    thread = threading.Thread(target=try_it)
    thread.start()
    assert entered.wait(60)
    fail(watched, 60, "it is away")
    go_on.set()
    thread.join()
    with watched.watched():
        pass
