"""The quick viewer of the web page in Chromium. Screenshots stay in tests/artefacts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from tests.clients import view_pictures
from tests.clients.browser import Browser
from tests.clients.needs import needs
from tests.clients.view_pictures import Picture
from tests.clients.viewer import Viewer
from tests.server import PROJECT, Server
from tests.wire.clients import stow

pytestmark = needs("chromium")

ARTEFACTS = PROJECT / "tests" / "artefacts"
PICTURES = view_pictures.pictures()


@dataclass(frozen=True)
class Desk:
    server: Server
    browser: Browser
    viewer: Viewer


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("viewer")
    with Server(folder / "archive") as server, Browser(folder / "browser") as browser:
        answer = stow(server, [picture.file for picture in PICTURES])
        assert answer.status_code == 200, answer.text
        yield Desk(server, browser, Viewer(browser, server.http_url))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_pixels_are_those_of_pydicom_and_the_window_formula(desk: Desk, picture: Picture) -> None:
    desk.viewer.open(picture.study_uid)
    for at, expected in enumerate(picture.frames):
        if at:
            desk.viewer.key("ArrowDown")
        desk.viewer.wait_for_picture(expected)
