"""The unit for systemd."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pacs.cli import main

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="UNITS ARE NOT VERIFIED: there is no systemd-analyze here"
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "50% of it, and more"
    (folder / "data").mkdir(parents=True)
    monkeypatch.setenv("PACS_HOME", str(folder))
    return folder


@needs_systemd
@pytest.mark.parametrize("of_user", [False, True], ids=["system", "user"])
def test_systemd_finds_nothing_wrong_with_the_unit(home: Path, tmp_path: Path, *, of_user: bool) -> None:
    more = ["--user"] if of_user else ["--run-as", "daemon"]
    assert main(["service", "install", "--folder", str(tmp_path / "units"), *more]) == 0
    manager = ["--user"] if of_user else []
    checked = subprocess.run(
        ["systemd-analyze", *manager, "verify", "--man=no", str(tmp_path / "units" / "pacs.service")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
    )
    complaints = [line for line in checked.stderr.splitlines() if "pacs.service" in line]
    assert complaints == []
    assert checked.returncode == 0, checked.stderr


def test_an_edited_unit_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install = ["service", "install", "--folder", str(tmp_path), "--run-as", "daemon"]
    assert main(install) == main(install) == 0
    path = tmp_path / "pacs.service"
    path.write_text(path.read_text() + "# mine\n")
    assert main(install) == 2
    assert "--force" in capsys.readouterr().err
    assert path.read_text().endswith("# mine\n")
    assert main([*install, "--force"]) == 0
    assert not path.read_text().endswith("# mine\n")


def test_only_low_ports_ask_for_a_capability(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["service", "unit"])
    assert "AmbientCapabilities=\n" in capsys.readouterr().out
    monkeypatch.setenv("DIMSE_PORT", "104")
    main(["service", "unit"])
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" in capsys.readouterr().out
