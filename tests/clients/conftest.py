"""An archive that holds every file of the pydicom wheel, made once for all client tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients import wheel
from tests.server import Server
from tests.wire.clients import stored_uids, stow


@pytest.fixture(scope="session")
def wheel_archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Read from it only: every test of the session that asks for it gets the same one."""
    with Server(tmp_path_factory.mktemp("wheel")) as server:
        answer = stow(server, [file.data for file in wheel.files()])
        assert answer.status_code in (200, 202), answer.text
        assert stored_uids(answer.json()) == {file.sop_uid for file in wheel.files()}
        yield server
