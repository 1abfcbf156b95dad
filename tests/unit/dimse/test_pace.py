"""The limit of bytes a second, by a clock in the test's hand."""

from __future__ import annotations

import pytest

from pacs.dimse import pace
from pacs.dimse.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def test_bytes_are_the_same_and_take_their_time(clock):
    limited = Pace(100_000)
    chunks = [b"a" * 300_000, b"", b"b" * 700_000]
    assert b"".join(limited.of(iter(chunks))) == b"".join(chunks)
    # A second's worth is free after a rest; the last piece goes out when those before it have taken their time.
    assert 8.0 <= clock.now - 100.0 <= 9.0


def test_associations_share_the_limit(clock):
    limited = Pace(100_000)
    first, second = limited.of(iter([b"a" * 500_000])), limited.of(iter([b"b" * 500_000]))
    while next(first, None) is not None and next(second, None) is not None:
        pass
    assert 8.0 <= clock.now - 100.0 <= 9.0


def test_a_long_rest_saves_up_no_more_than_a_second(clock):
    limited = Pace(100_000)
    list(limited.of(iter([b"a" * 100_000])))
    clock.now += 3600
    began = clock.now
    list(limited.of(iter([b"a" * 600_000])))
    assert clock.now - began >= 4.0
