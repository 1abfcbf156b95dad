"""Jobs over HTTP: who may look at them, and what cannot be asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import requests

from pacs.index.sqlite import SqliteIndex
from pacs.index.work import NewJob
from pacs.web.jobs import addition
from tests.unit.web.running import RunningArchive


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    with closing(SqliteIndex(tmp_path_factory.mktemp("work") / "index.sqlite")) as index:
        index.work.add_jobs([NewJob("send", str(number)) for number in range(3)])
        with RunningArchive(tmp_path_factory.mktemp("web"), additions=[addition(index.work)]) as running:
            yield running


def test_jobs_come_in_pages(web: RunningArchive) -> None:
    address = f"{web.dicomweb_url}/jobs"
    first = requests.get(address, params={"limit": "2"}, timeout=60).json()
    assert first["counts"] == [{"kind": "send", "state": "waiting", "jobs": 3}]
    second = requests.get(address, params={"limit": "2", "after": first["next"]}, timeout=60).json()
    assert second["next"] is None
    assert sorted(job["about"] for job in first["jobs"] + second["jobs"]) == ["0", "1", "2"]


@pytest.mark.parametrize("query", ["state=done", "limit=0", "limit=x", "limit=1001", "limit=%C2%B2"])
def test_what_cannot_be_asked_is_said(web: RunningArchive, query: str) -> None:
    response = requests.get(f"{web.dicomweb_url}/jobs?{query}", timeout=60)
    assert response.status_code == 400
    assert query.partition("=")[0] in response.json()["detail"]


def test_nothing_is_told_or_done_where_administration_is_not_allowed(tmp_path_factory: pytest.TempPathFactory) -> None:
    with RunningArchive(tmp_path_factory.mktemp("without"), additions=[addition(None)]) as running:
        address = f"{running.dicomweb_url}/jobs"
        for method, path in (("GET", ""), ("GET", "/1"), ("POST", "/1/retry"), ("DELETE", "/1")):
            response = requests.request(method, address + path, timeout=60)
            assert response.status_code == 403, (method, path)
            assert "ADMIN_API" in response.json()["detail"]
