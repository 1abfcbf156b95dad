"""``pacs user``: the file that it writes, and what it refuses."""

from __future__ import annotations

import io

import pytest

from pacs.cli import main
from pacs.dimse.user import Identity, IdentityType
from pacs.dimse.users import Users


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("PACS_HOME", str(tmp_path))
    monkeypatch.setenv("DIMSE_USERS", "users")
    return tmp_path / "users"


@pytest.fixture
def typed(monkeypatch):
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_user_is_added_changed_and_removed_and_others_stay(path, typed, capsys):
    path.write_text("# of the ward\nconsole:*\n")
    path.chmod(0o640)
    identity = Identity(IdentityType.USERNAME_PASSCODE, b"anna", b"geheim")
    typed("first\n")
    assert main(["user", "anna"]) == 0
    assert Users(path).check(identity) is None
    typed("geheim\n")
    assert main(["user", "anna"]) == 0
    assert Users(path).check(identity) == "anna"
    assert "geheim" not in path.read_text()
    assert path.read_text().startswith("# of the ward\nconsole:*\nanna:$scrypt$")
    assert path.stat().st_mode & 0o777 == 0o640
    assert main(["user", "anna", "--remove"]) == 0
    assert path.read_text() == "# of the ward\nconsole:*\n"
    assert capsys.readouterr().out.splitlines()[-1] == f"Removed user anna in {path}."
    assert list(path.parent.iterdir()) == [path]


def test_a_new_file_is_for_its_owner_only(path, typed):
    assert main(["user", "console", "--no-passcode"]) == 0
    assert path.read_text() == "console:*\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_makes_no_sense_changes_nothing(path, typed, monkeypatch, capsys):
    path.write_text("console:*\n")
    typed("\n")
    assert main(["user", "anna"]) == 2
    for name in ("a:b", "#a", " a", ""):
        assert main(["user", name, "--no-passcode"]) == 2, name
    assert main(["user", "anna", "--remove"]) == 3
    assert path.read_text() == "console:*\n"
    monkeypatch.setenv("DIMSE_USERS", "no/such/folder/users")
    assert main(["user", "anna", "--no-passcode"]) == 2
    assert "No such file" in capsys.readouterr().err
    monkeypatch.delenv("DIMSE_USERS")
    assert main(["user", "anna"]) == 2
    assert "DIMSE_USERS is not set" in capsys.readouterr().err
