"""The conformance statement says what the running server offers."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from tests.server import Server


@pytest.mark.parametrize("settings", [{}, {"ADMIN_API": "false", "ALLOW_DELETE": "false"}])
def test_the_statement_lists_every_resource_of_the_running_server(tmp_path: Path, settings: dict[str, str]) -> None:
    with Server(tmp_path, settings) as server:
        paths = requests.get(f"{server.dicomweb_url}/openapi.json", timeout=60).json()["paths"]
        statement = server.pacs("conformance").stdout
    root = "/dicom-web"
    offered = {
        (method.upper(), path.removeprefix(root) or "/")
        for path, operations in paths.items()
        for method in operations
        if path.startswith(root)
    }
    rows = [line.split(" | ") for line in statement.splitlines()]
    methods = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    listed = {
        (cells[0].removeprefix("| "), cells[1])
        for cells in rows
        if len(cells) == 5 and cells[0].removeprefix("| ") in methods and "server's root" not in cells[1]
    }
    assert listed == offered
    assert ("GET", "/changes") in listed
    assert (("GET", "/jobs") in listed) is (not settings)
