"""Retention rules over real archives: by age, by size, by label, by modality; the dry run, and the server that acts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from pacs.archive import Archive
from pacs.dicom.model import Caller, Target
from pacs.errors import Invalid
from pacs.services.delete import Delete
from pacs.services.labels import Labels
from pacs.services.retention import Leaving, Retaining, load
from pacs.settings import load as load_settings
from tests import builders
from tests.conftest import StartArchive
from tests.server import Server
from tests.wire.clients import qido, stow
from tests.wire.receivers import eventually

NOW = datetime.now(UTC)
TIMEOUT_S = 30


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PACS_HOME", str(tmp_path))
    with Archive.open(load_settings({"DICOM_STORE_ROOTPATH": str(tmp_path / "data")}).settings) as opened:
        yield opened


def store(archive: Archive, study: str, date: str, **values: Any) -> int:
    with archive.store.spool() as spool:
        spool.write(builders.ct(study, f"{study}.1", f"{study}.1.1", rows=16, columns=16, StudyDate=date, **values))
        return archive.store.store(spool, Caller("CT1", "", "dimse")).instance.blob.size_bytes


def leaving(archive: Archive, tmp_path: Path, rules: str, now: datetime = NOW) -> list[Leaving]:
    path = tmp_path / "retention.toml"
    path.write_text(rules)
    return list(Retaining(archive.index, load(path)).leaving(now))


def studies(found: list[Leaving]) -> list[str]:
    return [each.study_uid for each in found]


def test_studies_go_by_their_date(archive: Archive, tmp_path: Path) -> None:
    store(archive, "1.1", "20100101")
    store(archive, "1.2", f"{NOW:%Y%m%d}")
    store(archive, "1.3", "")  # nothing says that it is old
    rules = '[[rule]]\nname = "old"\nolder_than = "10y"\nby = "study date"\n'
    (found,) = leaving(archive, tmp_path, rules)
    assert (found.study_uid, found.rule, found.since) == ("1.1", "old", datetime(2010, 1, 1, tzinfo=UTC))
    assert found.size_bytes > 500


def test_studies_go_by_when_the_last_of_them_came(archive: Archive, tmp_path: Path) -> None:
    store(archive, "1.1", "20100101")
    rules = '[[rule]]\nolder_than = "30d"\n'
    assert leaving(archive, tmp_path, rules) == []
    assert studies(leaving(archive, tmp_path, rules, NOW + timedelta(days=31))) == ["1.1"]


def test_modality_and_labels_decide(archive: Archive, tmp_path: Path) -> None:
    for study, modality in (("1.1", "CT"), ("1.2", "MR"), ("1.3", "CT"), ("1.4", "CT")):
        store(archive, study, "20100101", Modality=modality)
    labels = Labels(archive.index.work)
    labels.add("1.3", "teaching")
    labels.add("1.4", "routine")
    ct = 'keep = ["keep", "teaching"]\n[[rule]]\nolder_than = "1y"\nby = "study date"\nmatch = { Modality = "CT" }\n'
    assert studies(leaving(archive, tmp_path, ct)) == ["1.1", "1.4"]
    assert studies(leaving(archive, tmp_path, f'{ct}label = "routine"\n')) == ["1.4"]


def test_the_oldest_go_until_the_archive_is_small_enough(archive: Archive, tmp_path: Path) -> None:
    sizes = [store(archive, f"1.{number}", f"20{number}0101") for number in (15, 11, 13, 12)]
    rules = f'[[rule]]\nlarger_than = {sum(sizes) - sizes[0] - 1}\nby = "study date"\n'
    found = leaving(archive, tmp_path, rules)
    assert studies(found) == ["1.11", "1.12"]
    assert leaving(archive, tmp_path, f"[[rule]]\nlarger_than = {sum(sizes)}\n") == []
    # What an earlier rule lets go is counted, dry run or not.
    both = f'[[rule]]\nname = "CT"\nolder_than = "1d"\nby = "study date"\nmatch = {{ StudyDate = "20110101" }}\n{rules}'
    dry = leaving(archive, tmp_path, both)
    assert studies(dry) == ["1.11", "1.12"]
    retaining = Retaining(archive.index, load(tmp_path / "retention.toml"))
    real = []
    for each in retaining.leaving(NOW):
        archive.delete.delete(Target(each.study_uid), Caller("test", "", "rule"))
        real.append(each)
    assert real == dry


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[rule]]\n", "neither older_than nor larger_than"),
        ('[[rule]]\nolder_than = "soon"\n', "is not an age"),
        ('[[rule]]\nlarger_than = "much"\n', "is not a size"),
        ('[[rule]]\nolder_than = "1d"\nby = "weight"\n', "by is neither"),
        ('[[rule]]\nolder_than = "1d"\nmatch = { Nonsense = "1" }\n', "Nonsense"),
        ('[[rule]]\nolder_than = "1d"\nyounger = 1\n', "unknown: younger"),
        ('keep = ["a b"]\n', "is not a label"),
        ("[[rules]]\n", "known are keep and"),
        ("nothing", "is not TOML"),
    ],
    ids=["nothing", "age", "size", "by", "key", "word", "label", "table", "toml"],
)
def test_wrong_rules_are_refused_with_a_reason(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(text)
    with pytest.raises(Invalid, match=complaint):
        load(path)


def test_the_server_deletes_into_the_trash_and_purges_after_a_time(start_archive: StartArchive, tmp_path: Path) -> None:
    rules = tmp_path / "retention.toml"
    rules.write_text('keep = "keep"\n[[rule]]\nname = "old CT"\nolder_than = "5y"\nby = "study date"\n')
    server: Server = start_archive({"SERVER_WORKERS": "2"})
    for study, date in (("1.1", "20100101"), ("1.2", "20100101"), ("1.3", f"{NOW:%Y%m%d}")):
        assert stow(server, [builders.ct(study, f"{study}.1", f"{study}.1.1", StudyDate=date)]).status_code == 200
    label = f"{server.dicomweb_url}/studies/1.2/labels/keep"
    assert requests.put(label, timeout=TIMEOUT_S).status_code == 204
    tried = server.pacs("retention", "test", str(rules), "--json")
    assert tried.returncode == 0, tried.stderr
    assert [each["study"] for each in json.loads(tried.stdout)["studies"]] == ["1.1"]
    assert len(qido(server, "/studies")) == 3
    server.stop()

    server.env["RETENTION"] = str(rules)
    server.start()
    eventually(lambda: len(qido(server, "/studies")) == 2, "the old study is deleted")
    assert "retention deleted study=1.1 rule=old CT" in server.log()
    (deleted,) = requests.get(f"{server.dicomweb_url}/trash", timeout=TIMEOUT_S).json()["deleted"]
    assert deleted["study"] == "1.1"
    found = requests.get(f"{server.dicomweb_url}/jobs", {"kind": "retention"}, timeout=TIMEOUT_S).json()["jobs"]
    assert len(found) == 1
    files = len(server.files())
    server.stop()

    server.env["PURGE_AFTER_DAYS"] = "0.00001"
    server.start()
    eventually(lambda: len(server.files()) == files - 1, "its file is removed")
    assert requests.get(f"{server.dicomweb_url}/trash", timeout=TIMEOUT_S).json()["deleted"] == []


def test_nothing_is_purged_that_is_restored_at_the_same_moment(archive: Archive) -> None:
    store(archive, "1.1", "20100101")
    caller = Caller("test", "", "cli")
    archive.delete.delete(Target("1.1"), caller)

    class Slow:
        """The index, asked by a purge that another thread restores behind its back."""

        def __getattr__(self, name: str) -> Any:
            return getattr(archive.index, name)

        def discarded(self, until: datetime) -> Any:
            found = list(archive.index.discarded(until))
            assert archive.trash.restore(Target("1.1"), caller).restored == 1
            return iter(found)

    purged = Delete(Slow(), archive.blobs).purge(datetime.now(UTC))  # type: ignore[arg-type]
    assert purged.deleted == 0
    (instance,) = archive.index.locate(Target("1.1"))
    assert len(archive.blobs.read(instance.blob)) == instance.blob.size_bytes
