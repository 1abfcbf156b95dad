"""What every index engine has to do. An engine's test class inherits this and gives the fixture ``reopen``.

The random walk compares an engine with ``index_model``, which asks the reference matcher about every instance.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from pacs.dicom.layout import Span
from pacs.dicom.matching import Matcher, Single, TagPath, UidList, Wildcard
from pacs.dicom.model import EVERYTHING, Level, Scope, Target
from pacs.errors import Invalid, NotFound, OutOfResources
from pacs.index.base import Counts, Fields, Index, Order, Put, Query, nothing
from pacs.index.listing import LABELS as LABEL_RECORDS
from pacs.index.work import RecordWrite
from tests.contracts.index_model import ModelIndex
from tests.contracts.index_records import CT, IMPLICIT, LEVELS, NAMED_TAGS, SR, random_keys, random_record, record

ALL_LEVELS = Fields(frozenset(Level))
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
FAR = datetime(2999, 1, 1, tzinfo=UTC)
Reopen = Callable[[], Index]


def rows(index: Index, level: Level, keys: dict[TagPath, Matcher] | None = None, **more: Any) -> list[dict[str, Any]]:
    page = index.search(Query(level, keys or {}, **{"fields": ALL_LEVELS, **more}))
    return [orjson.loads(row) for row in page.rows]


def value(row: dict[str, Any], tag: str) -> Any:
    return row[tag]["Value"][0]


def uids(index: Index, keys: dict[TagPath, Matcher], within: Target | None = None) -> list[str | None]:
    return [one.target.sop_uid for one in index.select(keys, within)]


LABELS = ["red", "trial:x", "Réd-2"]
TEXTS = [
    "doe",
    "ja",
    "p1",
    "2024",
    "2024-01",
    "20230101",
    "a1",
    "thorax",
    "ct",
    "m",
    "red",
    "trial:x",
    "100%",
    "山",
    "é",
]
ORDERS = {
    Level.STUDY: ["", "00080020", "00100010", "00100020", "00080050", "00081030", "00080061", "00201208"],
    Level.SERIES: ["", "00200011"],
}


def label(index: Index, model: ModelIndex, study: str, labels: list[str]) -> None:
    content = orjson.dumps(sorted(labels)) if labels else None
    assert index.work.write_records([RecordWrite(LABEL_RECORDS, study, content)])
    model.labels[study] = set(labels)


def random_scope(rng: random.Random) -> Scope:
    return Scope(
        modalities=rng.choice([None, frozenset(rng.sample(["CT", "MR", "sr", ""], rng.randrange(4)))]),
        labels=rng.choice([None, None, frozenset(rng.sample(LABELS, 2))]),
        studies=rng.choice([None, None, frozenset(rng.sample("1234", 3))]),
    )


_ADDED: tuple[TagPath, ...] = (
    *(("00180050",), ("00090002@ACME",), ("00091002",), ("00400275", "00400009"), ("00400275", "00401001")),
    ("00081032", "00080100"),
)


class IndexContract:
    """Inherit, and give ``reopen``: a function that opens an index over the same storage each time it is called."""

    @pytest.fixture
    def reopen(self) -> Reopen:
        raise NotImplementedError

    @pytest.fixture
    def index(self, reopen: Reopen) -> Iterator[Index]:
        index = reopen()
        yield index
        index.close()

    # Files that become durable meanwhile

    def test_no_row_is_there_before_its_file_is_durable(self, index: Index, reopen: Reopen) -> None:
        other = reopen()
        seen = []
        index.put([record("1", "1.1", "1.1.1")], durable=lambda: seen.append(other.counts().instances))
        assert seen == [0]
        assert other.counts().instances == 1
        other.close()

    def test_a_file_that_does_not_become_durable_gets_no_row_and_spoils_no_other(self, index: Index) -> None:
        def fail() -> None:
            raise OutOfResources("the disk is full")

        with ThreadPoolExecutor(8) as threads:
            calls = [
                threads.submit(
                    index.put, [record("1", "1.1", f"1.1.{number}")], durable=fail if number % 3 == 0 else nothing
                )
                for number in range(30)
            ]
        failed = {number for number, call in enumerate(calls) if call.exception() is not None}
        assert failed == set(range(0, 30, 3))
        assert all(isinstance(calls[number].exception(), OutOfResources) for number in failed)
        assert set(uids(index, {})) == {f"1.1.{number}" for number in range(30) if number % 3}
        (study,) = rows(index, Level.STUDY)
        assert value(study, "00201208") == 20
        # What the failed ones would have left behind is not taken for theirs.
        index.put([record("1", "1.1", "1.1.0")])
        assert len(list(index.metadata(Target("1")))) == 21

    # When a study came

    def test_the_last_arrival_is_that_of_the_instance_received_last(self, index: Index) -> None:
        assert index.last_arrival("1") is None
        first, second, third = (record("1", "1.1", f"1.1.{number}") for number in range(3))
        at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
        index.put([replace(first, received_at=at), replace(second, received_at=at.replace(microsecond=0))])
        assert index.last_arrival("1") == at
        index.put([replace(third, received_at=at + timedelta(hours=1))])
        index.put([replace(record("2", "2.1", "2.1.1"), received_at=at + timedelta(hours=9))])
        assert index.last_arrival("1") == at + timedelta(hours=1)
        index.remove([third.header.target])
        assert index.last_arrival("1") == at

    # Added indexes

    def test_an_added_index_is_complete_once_all_that_was_there_is_in_it(self, index: Index) -> None:
        index.put([record("1", "1.1", f"1.1.{number}", InstanceNumber=number) for number in range(450)])
        path = ("00180050",)
        index.add_index(path)
        index.add_index(path)
        progress = []
        while not index.fill_index(path):
            (one,) = index.added_indexes()
            progress.append(one.done)
            assert (one.path, one.is_complete, one.total) == (path, False, 450)
        assert progress == sorted(set(progress))
        assert progress
        (one,) = index.added_indexes()
        assert (one.is_complete, one.done, one.total) == (True, 450, 450)
        assert index.fill_index(path)

    def test_added_indexes_are_there_after_opening_again(self, index: Index, reopen: Reopen) -> None:
        index.add_index(("00180050",))
        index.add_index(("00090002@ACME",))
        index.fill_index(("00180050",))
        again = reopen()
        assert again.added_indexes() == index.added_indexes()
        assert [one.is_complete for one in again.added_indexes()] == [True, False]
        again.close()

    def test_a_dropped_index_is_gone_and_may_come_again(self, index: Index) -> None:
        index.put([record(SliceThickness=1)])
        path, key = ("00180050",), {("00180050",): Single("1")}
        for _ in range(2):
            index.add_index(path)
            index.fill_index(path)
            assert uids(index, key) == ["1.1.1"]
            index.drop_index(path)
            assert index.added_indexes() == []
            assert uids(index, key) == ["1.1.1"]
        with pytest.raises(NotFound):
            index.drop_index(path)
        with pytest.raises(NotFound):
            index.fill_index(path)

    @pytest.mark.parametrize("path", [("00100010",), ("7FE00010",), ("00400275",)])
    def test_what_needs_or_bears_no_index_gets_none(self, index: Index, path: TagPath) -> None:
        with pytest.raises(Invalid):
            index.add_index(path)

    # Storing

    def test_an_empty_index_finds_nothing(self, index: Index) -> None:
        assert all(rows(index, level) == [] for level in Level)
        assert index.counts() == Counts(0, 0, 0, 0, 0)
        assert index.locate(Target("1")) == [] == list(index.metadata(Target("1"))) == list(index.stored())
        assert index.remove([Target("1")]) == []
        with pytest.raises(NotFound):
            index.layout(Target("1", "1.1", "1.1.1"))

    def test_a_stored_instance_is_found_at_every_level(self, index: Index) -> None:
        one = record("1", "1.1", "1.1.1")
        assert [result.outcome for result in index.put([one])] == [Put.STORED]
        assert value(rows(index, Level.PATIENT)[0], "00100020") == "P1"
        assert value(rows(index, Level.STUDY)[0], "0020000D") == "1"
        assert value(rows(index, Level.SERIES)[0], "0020000E") == "1.1"
        image = rows(index, Level.IMAGE)[0]
        assert (value(image, "00080018"), value(image, "00083002")) == ("1.1.1", one.header.transfer_syntax_uid)
        (found,) = index.locate(Target("1"))
        assert (found.target, found.blob, found.data_set_offset) == (one.header.target, one.blob, 132)
        assert (found.sop_class_uid, found.transfer_syntax_uid) == (CT, one.header.transfer_syntax_uid)

    def test_the_same_bytes_again_change_nothing(self, index: Index) -> None:
        first, second = record(), record()
        index.put([first])
        (result,) = index.put([second])
        assert result.outcome is Put.SAME
        assert result.existing is not None
        assert result.existing.blob == first.blob
        assert index.counts() == Counts(1, 1, 1, 1, first.blob.size_bytes)
        assert not index.holds_key(second.blob.key)

    def test_the_same_bytes_in_another_transfer_syntax_are_a_conflict(self, index: Index) -> None:
        index.put([record()])
        assert index.put([record(transfer_syntax=IMPLICIT)])[0].outcome is Put.CONFLICT

    def test_other_bytes_are_a_conflict_and_change_nothing(self, index: Index) -> None:
        first = record()
        index.put([first])
        (result,) = index.put([record(version="other", PatientName="Roe")])
        assert result.outcome is Put.CONFLICT
        assert result.existing is not None
        assert result.existing.blob == first.blob
        assert value(rows(index, Level.PATIENT)[0], "00100010") == {"Alphabetic": "Doe^Jane"}

    def test_a_replacement_keeps_the_earlier_version_as_superseded(self, index: Index) -> None:
        first, second = record(size_bytes=10), record(version="other", size_bytes=30, SeriesDescription="new")
        index.put([first])
        (result,) = index.put([second], replace=True)
        assert result.outcome is Put.REPLACED
        assert result.existing is not None
        assert result.existing.blob == first.blob
        assert [one.blob for one in index.locate(Target("1"))] == [second.blob]
        assert {one.blob.key for one in index.stored()} == {first.blob.key, second.blob.key}
        assert index.holds_key(first.blob.key)
        assert index.held_keys(["other", first.blob.key, second.blob.key]) == {first.blob.key, second.blob.key}
        assert index.held_keys([]) == set()
        assert index.counts() == Counts(1, 1, 1, 1, 30)
        assert orjson.loads(next(index.metadata(Target("1"))).json)["0008103E"]["Value"] == ["new"]
        assert {ref.key for ref in index.remove([Target("1")])} == {first.blob.key, second.blob.key}

    def test_replacing_with_the_same_bytes_changes_nothing(self, index: Index) -> None:
        index.put([record()])
        assert index.put([record()], replace=True)[0].outcome is Put.SAME
        assert len(list(index.stored())) == 1

    def test_a_replacement_of_another_class_is_counted_under_its_new_class(self, index: Index) -> None:
        index.put([record()])
        index.put([record(version="other", sop_class=SR, Modality="SR")], replace=True)
        (study,) = rows(index, Level.STUDY, fields=Fields(tags=frozenset({"00080062", "00080061"})))
        assert (study["00080062"]["Value"], study["00080061"]["Value"]) == ([SR], ["SR"])

    def test_records_of_one_call_behave_as_if_put_one_after_the_other(self, index: Index) -> None:
        same, other = record(), record(version="other")
        outcomes = [result.outcome for result in index.put([record(), same, other, record(sop="1.1.2")])]
        assert outcomes == [Put.STORED, Put.SAME, Put.CONFLICT, Put.STORED]
        assert [result.outcome for result in index.put([other, record()], replace=True)] == [Put.REPLACED, Put.REPLACED]

    def test_one_sop_uid_in_two_studies_is_two_instances(self, index: Index) -> None:
        index.put([record("1", "1.1", "9"), record("2", "2.1", "9", version="other")])
        assert index.counts().instances == 2
        assert uids(index, {("00080018",): UidList(("9",))}) == ["9", "9"]
        index.remove([Target("1", "1.1", "9")])
        assert [one.target.study_uid for one in index.locate(Target("2"))] == ["2"]

    def test_uids_of_the_record_stand_in_for_those_that_the_data_set_lacks(self, index: Index) -> None:
        index.put([record(StudyInstanceUID=..., SeriesInstanceUID=..., SOPInstanceUID=..., SOPClassUID=...)])
        (row,) = rows(index, Level.IMAGE, {("0020000D",): UidList(("1",)), ("00080016",): UidList((CT,))})
        assert [value(row, tag) for tag in ("00080016", "00080018", "0020000D", "0020000E")] == [
            CT,
            "1.1.1",
            "1",
            "1.1",
        ]

    # Counters and what rows say

    def test_counters_follow_instances_as_they_come_and_go(self, index: Index) -> None:
        index.put([record("1", f"1.{n % 2}", f"1.{n % 2}.{n}", Modality="MR" if n % 2 else "CT") for n in range(5)])
        index.put([record("2", "2.1", "2.1.1", sop_class=SR, Modality="SR")])
        counters = ("00201200", "00201202", "00201204", "00201206", "00201208", "00080061", "00080062")

        def counted() -> list[list[Any]]:
            fields = Fields(tags=frozenset(counters))
            return [[row[tag]["Value"] for tag in counters] for row in rows(index, Level.STUDY, fields=fields)]

        assert counted() == [[[2], [3], [6], [2], [5], ["CT", "MR"], [CT]], [[2], [3], [6], [1], [1], ["SR"], [SR]]]
        index.remove([Target("1", "1.1"), Target("1", "1.0", "1.0.0")])
        assert counted() == [[[2], [2], [3], [1], [2], ["CT"], [CT]], [[2], [2], [3], [1], [1], ["SR"], [SR]]]

    def test_counters_can_be_searched_by(self, index: Index) -> None:
        index.put(
            [record("1", "1.1", "1.1.1"), record("1", "1.1", "1.1.2"), record("2", "2.1", "2.1.1", Modality="MR")]
        )
        for keys in ({("00201208",): Single("2")}, {("00080061",): Single("ct")}, {("00080061",): Wildcard("C*")}):
            assert [value(row, "0020000D") for row in rows(index, Level.STUDY, keys)] == ["1"]

    def test_the_last_stored_instance_speaks_for_its_study(self, index: Index) -> None:
        index.put([record(sop="1.1.1", StudyDescription="first"), record(sop="1.1.2", StudyDescription="second")])
        page = index.search(Query(Level.STUDY, {}, fields=Fields(frozenset({Level.STUDY}))))
        assert value(orjson.loads(page.rows[0]), "00081030") == "second"
        assert page.inconsistent == {0}
        assert rows(index, Level.STUDY, {("00081030",): Single("first")}) == []
        index.remove([Target("1", "1.1", "1.1.2")])
        page = index.search(Query(Level.STUDY, {}, fields=Fields(frozenset({Level.STUDY}))))
        assert value(orjson.loads(page.rows[0]), "00081030") == "first"
        assert page.inconsistent == frozenset()

    def test_a_study_moves_to_the_patient_that_its_last_instance_names(self, index: Index) -> None:
        index.put([record("1", "1.1", "1.1.1"), record("2", "2.1", "2.1.1")])
        index.put([record("1", "1.1", "1.1.2", PatientID="P2", PatientName="Roe")])
        tags = Fields(tags=frozenset({"00100020", "00201200", "00201204"}))

        def patients() -> list[tuple[Any, ...]]:
            return [
                tuple(value(row, tag) for tag in ("00100020", "00201200", "00201204"))
                for row in rows(index, Level.PATIENT, fields=tags)
            ]

        assert patients() == [("P1", 1, 1), ("P2", 1, 2)]
        index.put([record("2", "2.1", "2.1.2", PatientID="P2", PatientName="Roe")])
        assert patients() == [("P2", 2, 4)]
        index.remove([Target("2", "2.1", "2.1.2")])
        assert sorted(patients()) == [("P1", 1, 1), ("P2", 1, 2)]

    def test_studies_without_patient_id_never_share_a_patient(self, index: Index) -> None:
        index.put([record("1", "1.1", "1.1.1", PatientID=...), record("2", "2.1", "2.1.1", PatientID="")])
        assert index.counts().patients == 2

    def test_patients_of_two_issuers_are_two(self, index: Index) -> None:
        index.put([record("1", "1.1", "1", IssuerOfPatientID="A"), record("2", "2.1", "2", IssuerOfPatientID="B")])
        assert index.counts().patients == 2

    # Searching

    def test_keys_of_one_lower_level_are_met_by_the_same_entity(self, index: Index) -> None:
        index.put(
            [
                record("1", "1.1", "1.1.1", Modality="CT", SeriesDescription="Lung"),
                record("1", "1.2", "1.2.1", Modality="MR", SeriesDescription="Head", Rows=256),
            ]
        )

        def is_found(**keys: str) -> bool:
            tags = {"modality": "00080060", "description": "0008103E", "rows": "00280010"}
            asked: dict[TagPath, Matcher] = {(tags[name],): Single(text) for name, text in keys.items()}
            return bool(rows(index, Level.STUDY, asked)) and bool(rows(index, Level.PATIENT, asked))

        assert is_found(modality="CT", description="Lung", rows="512")
        assert not is_found(modality="CT", description="Head")
        assert not is_found(modality="CT", rows="256")

    def test_keys_of_levels_above_are_met_by_what_an_instance_belongs_to(self, index: Index) -> None:
        index.put([record("1", "1.1", "1.1.1"), record("2", "2.1", "2.1.1", PatientID="P2", AccessionNumber="A2")])
        keys: dict[TagPath, Matcher] = {("00100020",): Single("P2"), ("00080050",): Single("A2")}
        assert [value(row, "00080018") for row in rows(index, Level.IMAGE, keys)] == ["2.1.1"]
        assert uids(index, keys) == ["2.1.1"]
        assert uids(index, keys, Target("1")) == []

    def test_within_limits_the_search_to_a_subtree(self, index: Index) -> None:
        index.put([record("1", f"1.{n % 2}", f"1.{n % 2}.{n}") for n in range(4)])
        assert len(rows(index, Level.IMAGE, within=Target("1", "1.1"))) == 2
        assert len(rows(index, Level.SERIES, within=Target("1"))) == 2
        assert rows(index, Level.SERIES, within=Target("2")) == []

    def test_select_and_locate_go_by_study_series_instance_number_and_uid(self, index: Index) -> None:
        numbers = [("5", 10), ("4", 2), ("3", 2), ("2", ...), ("1", 1)]
        index.put([record("1", "1.1", sop, InstanceNumber=number) for sop, number in numbers])
        index.put([record("0", "0.1", "0", InstanceNumber=1)])
        assert uids(index, {}) == ["1", "3", "4", "5", "2", "0"]
        assert [one.target.sop_uid for one in index.locate(Target("1"))] == ["1", "3", "4", "5", "2"]
        assert [one.target.sop_uid for one in index.metadata(Target("1", "1.1"))] == ["1", "3", "4", "5", "2"]

    def test_a_list_of_very_many_uids_is_searched(self, index: Index) -> None:
        index.put([record(sop=f"1.1.{n}") for n in range(5)])
        many = UidList(tuple(f"1.1.{n}" for n in range(3, 70_000)))
        assert len(rows(index, Level.IMAGE, {("00080018",): many})) == 2
        assert len(rows(index, Level.STUDY, {("00080018",): many})) == 1

    def test_pages_follow_each_other_by_offset_and_by_cursor(self, index: Index) -> None:
        index.put([record(sop=f"1.1.{n}") for n in range(7)])
        first = index.search(Query(Level.IMAGE, {}, fields=ALL_LEVELS, limit=3, count=True))
        assert (len(first.rows), first.total) == (3, 7)
        second = index.search(Query(Level.IMAGE, {}, fields=ALL_LEVELS, limit=3, after=first.next, count=True))
        assert second.rows == index.search(Query(Level.IMAGE, {}, fields=ALL_LEVELS, limit=3, offset=3)).rows
        assert second.total == 7
        last = index.search(Query(Level.IMAGE, {}, fields=ALL_LEVELS, limit=3, after=second.next))
        assert (len(last.rows), last.next) == (1, None)
        assert index.search(Query(Level.IMAGE, {}, limit=3, offset=7)).rows == []
        assert index.search(Query(Level.IMAGE, {}, limit=7)).next is None

    @pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "9" * 30, "²"])
    def test_a_cursor_that_was_never_given_is_refused(self, index: Index, cursor: str) -> None:
        with pytest.raises(Invalid) as refused:
            index.search(Query(Level.IMAGE, {}, limit=1, after=cursor))
        assert refused.value.subject == "after"

    def test_pages_stay_put_while_instances_arrive(self, index: Index) -> None:
        index.put([record(sop=f"1.1.{n}") for n in range(20)])
        stop = threading.Event()

        def arrive() -> None:
            for n in range(100_000):
                if stop.is_set():
                    return
                index.put([record("0", "0.1", f"0.{n}")])

        sender = threading.Thread(target=arrive)
        sender.start()
        try:
            for _ in range(3):
                seen: list[str] = []
                after = None
                while len(seen) < 20:
                    page = index.search(Query(Level.IMAGE, {}, fields=ALL_LEVELS, limit=6, after=after))
                    seen += [value(orjson.loads(row), "00080018") for row in page.rows]
                    after = page.next
                assert seen[:20] == [f"1.1.{n}" for n in range(20)]
        finally:
            stop.set()
            sender.join()

    def test_rows_carry_the_fields_that_are_asked_for(self, index: Index) -> None:
        private = {"00090010": {"vr": "LO", "Value": ["ACME"]}, "00091002": {"vr": "LO", "Value": ["x"]}}
        index.put([record(SliceThickness=1.5, ImageType=["A", "B"], ReferringPhysicianName=None, **private)])

        def tags(level: Level, fields: Fields) -> set[str]:
            (row,) = index.search(Query(level, {}, fields=fields)).rows
            found = list(orjson.loads(row))
            assert found == sorted(found)
            return set(found)

        assert tags(Level.STUDY, Fields()) == set()
        named = frozenset({"00180050", "00080008", "00090002@ACME", "00081010", "00100010", "00080090"})
        expected = {"00180050", "00080008", "00090010", "00091002", "00100010", "00080090"}
        assert tags(Level.STUDY, Fields(tags=named)) == expected
        assert tags(Level.IMAGE, Fields(tags=named)) == expected
        series = tags(Level.SERIES, Fields(frozenset({Level.SERIES})))
        assert {"00080060", "0020000E", "00200011", "00201209"} <= series
        assert not series & {"0020000D", "00100010", "00080018"}
        everything = tags(Level.STUDY, Fields(everything=True))
        assert {"00201204", "00080062", "00080090", "00080061"} <= everything
        assert "00180050" not in everything
        assert {"00180050", "00091002", "00083002", "00201209"} <= tags(Level.IMAGE, Fields(everything=True))

    # Metadata, layout, removal

    def test_metadata_are_the_bytes_that_were_made_at_ingest(self, index: Index) -> None:
        records = [record(sop=f"1.1.{n}", InstanceNumber=n, PatientName="Παπα=山田") for n in range(250)]
        index.put(records)
        found = list(index.metadata(Target("1")))
        assert [one.json for one in found] == [one.header.json for one in records]
        assert found[7].target == records[7].header.target

    def test_metadata_reading_goes_on_while_instances_are_removed(self, index: Index) -> None:
        index.put([record(sop=f"1.1.{n}", InstanceNumber=n) for n in range(250)])
        reading = index.metadata(Target("1"))
        next(reading)
        index.remove([Target("1", "1.1", "1.1.249")])
        assert len(list(reading)) == 248

    def test_layout_comes_back_as_it_was(self, index: Index) -> None:
        one = record()
        index.put([one])
        assert index.layout(one.header.target) == one.header.layout
        assert index.layout(one.header.target).bulk["00420011"] == Span(200, 40)
        with pytest.raises(NotFound):
            index.layout(Target("1", "1.1", "none"))

    def test_an_instance_is_read_whole(self, index: Index) -> None:
        one, other = record("1", "1.1", "1.1.1"), record("1", "1.1", "1.1.2")
        index.put([one, other])
        target = one.header.target
        held = index.held(target)
        assert held is not None
        assert [held.instance] == index.locate(target)
        assert held.layout == one.header.layout
        assert [held.metadata] == [each.json for each in index.metadata(target)]
        assert index.held(Target("1", "1.1", "none")) is None
        index.remove([target])
        assert index.held(target) is None

    def test_removing_the_last_instance_removes_series_study_and_patient(self, index: Index) -> None:
        one = record()
        index.put([one])
        assert index.remove([one.header.target]) == [one.blob]
        assert index.counts() == Counts(0, 0, 0, 0, 0)
        assert all(rows(index, level) == [] for level in Level)
        assert not index.holds_key(one.blob.key)
        assert index.put([one])[0].outcome is Put.STORED

    # Deleting

    def test_what_is_deleted_is_out_of_sight_and_its_file_stays_noted(self, index: Index) -> None:
        one, two = record(), record(sop="1.1.2")
        index.put([one, two])
        assert [each.blob for each in index.delete(one.header.target, NOW)] == [one.blob]
        assert index.counts() == Counts(1, 1, 1, 1, two.blob.size_bytes)
        assert uids(index, {}) == ["1.1.2"]
        assert [each.blob for each in index.stored()] == [two.blob]
        assert index.held_keys([two.blob.key, one.blob.key, "other"]) == {one.blob.key, two.blob.key}
        assert index.is_deleted(one.header.target)
        assert not index.is_deleted(two.header.target)
        (noted,) = index.discarded(NOW)
        assert (noted.instance.blob, noted.at, noted.is_deleted) == (one.blob, NOW, True)

    def test_deleting_counts_like_removing(self, index: Index) -> None:
        index.put([record(), record("1", "1.2", "1.2.1", Modality="SR", sop_class=SR), record("2", "2.1", "2.1.1")])
        index.delete(Target("1", "1.2"), NOW)
        (study,) = rows(index, Level.STUDY, within=Target("1"))
        assert study["00080061"]["Value"] == ["CT"]
        assert value(study, "00201206") == value(study, "00201208") == 1
        index.delete(Target("1"), NOW)
        assert index.counts() == Counts(1, 1, 1, 1, 100)
        assert index.delete(Target("1"), NOW) == []

    def test_a_deleted_instance_is_stored_again_as_a_new_one(self, index: Index) -> None:
        one = record()
        index.put([one])
        index.delete(Target("1"), NOW)
        again = record()
        assert index.put([again])[0].outcome is Put.STORED
        assert [each.blob for each in index.locate(Target("1"))] == [again.blob]
        assert [each.instance.blob for each in index.discarded(NOW)] == [one.blob]

    def test_superseded_versions_are_deleted_with_their_instance(self, index: Index) -> None:
        first, second = record(), record(version="other")
        index.put([first])
        index.put([second], replace=True)
        assert [each.is_deleted for each in index.discarded(FAR)] == [False]
        keys = {first.blob.key, second.blob.key}
        assert {each.blob.key for each in index.versions(Target("1"))} == keys
        assert {each.blob.key for each in index.delete(Target("1"), NOW)} == keys
        assert {each.instance.blob.key for each in index.discarded(NOW)} == keys
        assert list(index.stored()) == []

    def test_only_what_was_discarded_until_then_is_listed(self, index: Index) -> None:
        index.put([record(), record(sop="1.1.2")])
        index.delete(Target("1", "1.1", "1.1.1"), NOW)
        index.delete(Target("1", "1.1", "1.1.2"), NOW + timedelta(seconds=2))
        assert len(list(index.discarded(NOW - timedelta(seconds=1)))) == 0
        assert len(list(index.discarded(NOW + timedelta(seconds=1)))) == 1
        assert len(list(index.discarded(FAR))) == 2

    def test_what_is_forgotten_is_still_known_as_deleted(self, index: Index) -> None:
        one = record()
        index.put([one])
        index.delete(Target("1"), NOW)
        index.forget([one.blob.key])
        assert list(index.discarded(FAR)) == []
        assert not index.holds_key(one.blob.key)
        assert index.is_deleted(Target("1"))

    def test_deletions_are_noted_anew_after_a_clear(self, index: Index) -> None:
        index.put([record()])
        index.delete(Target("1"), NOW)
        noted = list(index.discarded(FAR))
        index.clear()
        assert not index.is_deleted(Target("1"))
        index.bury(noted)
        index.bury(noted)
        assert list(index.discarded(FAR)) == noted

    def test_clear_forgets_all(self, index: Index) -> None:
        index.put([record(), record("2", "2.1", "2.1.1")])
        index.put([record(version="other")], replace=True)
        index.clear()
        assert index.counts() == Counts(0, 0, 0, 0, 0)
        assert list(index.stored()) == []
        assert index.put([record()])[0].outcome is Put.STORED

    def test_a_setting_is_set_once_unless_its_value_is_named(self, index: Index, reopen: Reopen) -> None:
        assert index.setting("store") is None
        assert index.remember("store", "a") == "a"
        assert index.remember("store", "b") == "a"
        assert index.remember("store", "b", instead_of="c") == "a"
        assert index.remember("store", "b", instead_of="a") == "b"
        assert index.remember("other", "x", instead_of="never set") == "x"
        index.clear()
        again = reopen()
        assert [again.setting(name) for name in ("store", "other", "third")] == ["b", "x", None]
        again.close()

    def test_of_many_who_set_a_setting_at_once_all_are_told_the_same(self, index: Index, reopen: Reopen) -> None:
        index.put([record()])
        others = [reopen() for _ in range(2)]
        with ThreadPoolExecutor(8) as threads:
            told = set(threads.map(lambda n: others[n % 2].remember("store", f"name-{n}"), range(24)))
        for other in others:
            other.close()
        assert told == {index.setting("store")}

    def test_all_is_there_after_closing_and_opening_again(self, index: Index, reopen: Reopen) -> None:
        index.put([record(sop=f"1.1.{n}") for n in range(3)])
        before = rows(index, Level.IMAGE), index.counts()
        index.close()
        again = reopen()
        try:
            assert (rows(again, Level.IMAGE), again.counts()) == before
            again.put([record(sop="1.1.9")])
            assert [value(row, "00080018") for row in rows(again, Level.IMAGE)][-1] == "1.1.9"
        finally:
            again.close()

    # Together

    def test_eight_threads_with_the_same_studies_interleaved_count_exactly(self, index: Index) -> None:
        def records_of(thread: int) -> list[Any]:
            # Every instance is sent by two threads.
            return [
                record(str(n % 3), f"{n % 3}.{n % 2}", f"{n % 3}.{n % 2}.{n}", Modality="MR" if n % 2 else "CT")
                for n in range(60)
                if n % 4 in (thread % 4, (thread + 1) % 4)
            ]

        outcomes: list[Put] = []
        failures: list[BaseException] = []

        def send(thread: int) -> None:
            try:
                for one in records_of(thread):
                    outcomes.extend(result.outcome for result in index.put([one]))
            except BaseException as error:  # noqa: BLE001 - reported below
                failures.append(error)

        threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert outcomes.count(Put.STORED) == 60
        assert outcomes.count(Put.SAME) == len(outcomes) - 60
        counts = index.counts()
        assert (counts.patients, counts.studies, counts.series, counts.instances) == (1, 3, 6, 60)
        studies = rows(index, Level.STUDY)
        assert [value(row, "00201208") for row in studies] == [20, 20, 20]
        assert [row["00080061"]["Value"] for row in studies] == [["CT", "MR"]] * 3
        assert sum(value(row, "00201209") for row in rows(index, Level.SERIES)) == 60

    @pytest.mark.parametrize("seed", range(12))
    def test_a_random_walk_agrees_with_the_reference(self, index: Index, seed: int) -> None:
        self._walk(index, random.Random(seed), lambda: None)

    @pytest.mark.parametrize("seed", range(100, 106))
    def test_a_random_walk_agrees_whatever_indexes_are_added_and_dropped(self, index: Index, seed: int) -> None:
        rng = random.Random(seed)

        def add_or_drop() -> None:
            path = rng.choice(_ADDED)
            there = {one.path for one in index.added_indexes()}
            match rng.choice("aaffd"):
                case "a":
                    index.add_index(path)
                case "f" if path in there:
                    index.fill_index(path)
                case "d" if path in there:
                    index.drop_index(path)

        self._walk(index, rng, add_or_drop)

    def _walk(self, index: Index, rng: random.Random, between: Callable[[], None]) -> None:
        model = ModelIndex()
        for _ in range(25):
            between()
            if rng.random() < 0.3:
                label(index, model, rng.choice("1234"), rng.sample(LABELS, rng.randrange(3)))
            if rng.random() < 0.75:
                batch = [random_record(rng) for _ in range(rng.randrange(1, 5))]
                replace = rng.random() < 0.5
                assert [one.outcome for one in index.put(batch, replace=replace)] == model.put(batch, replace)
            else:
                study = rng.choice("1234")
                series = rng.choice([None, f"{study}.1", f"{study}.2"])
                sop = f"{rng.choice(['9', series])}.{rng.choice('123')}" if series and rng.random() < 0.6 else None
                targets = [Target(study, series, sop)] + ([Target(rng.choice("1234"))] if rng.random() < 0.2 else [])
                assert {ref.key for ref in index.remove(targets)} == model.remove(targets)
            for _ in range(8):
                self._compare(index, model, rng)
            for _ in range(4):
                self._compare_listed(index, model, rng)

    def _compare_listed(self, index: Index, model: ModelIndex, rng: random.Random) -> None:
        """Searches with a scope, labels, words and an order; and what is visible of a subtree."""
        level = rng.choice([Level.STUDY, Level.STUDY, Level.STUDY, *LEVELS])
        scope = rng.choice([EVERYTHING, random_scope(rng)])
        text = " ".join(rng.sample(TEXTS, rng.randrange(3))) if level is Level.STUDY and rng.random() < 0.6 else ""
        labels = frozenset(rng.sample(LABELS, rng.choice([0, 0, 1, 2])))
        order = rng.choice([None, Order(rng.choice(ORDERS.get(level, [""])), rng.random() < 0.5)])
        keys = random_keys(rng) if rng.random() < 0.4 else {}
        within = rng.choice([None, None, Target(rng.choice("1234"))])
        query = Query(level, keys, within, ALL_LEVELS, count=True, scope=scope, text=text, labels=labels, order=order)
        expected, inconsistent = model.search(query)
        page = index.search(query)
        assert [orjson.loads(row) for row in page.rows] == expected, query
        assert (page.total, set(page.inconsistent), page.next) == (len(expected), inconsistent, None), query
        pages, after = [], None
        while True:
            part = index.search(replace(query, limit=2, after=after))
            pages += part.rows
            assert part.total == len(expected), query
            if part.next is None:
                break
            after = part.next
        assert pages == page.rows, query
        offset, limit = rng.randrange(4), rng.randrange(1, 4)
        part = index.search(replace(query, offset=offset, limit=limit))
        assert (part.rows, part.total) == (page.rows[offset : offset + limit], len(expected)), query
        assert index.select(keys, within, scope=scope) == model.select(keys, within, scope), query
        target = Target(rng.choice("1234"))
        visible = model.select({}, target, scope)
        assert index.locate(target, scope=scope) == visible
        assert [one.target for one in index.metadata(target, scope=scope)] == [one.target for one in visible]
        for one in index.locate(target)[:3]:
            held = index.held(one.target, scope=scope)
            assert (held.instance if held else None) == (one if one in visible else None)
        seen = {entry.key[0] for entry in model.entries.values() if model.is_visible(entry, scope)}
        borne = {study: sorted(model.labels.get(study, ())) for study in seen}
        assert index.labels_of(["1", "2", "3", "4"], scope=scope) == borne
        counted = Counter(label for labels in borne.values() for label in labels)
        assert list(index.label_counts(scope=scope).items()) == sorted(counted.items())

    # Lists of studies

    def test_equal_studies_come_as_they_were_stored_and_the_other_way_round_when_descending(self, index: Index) -> None:
        index.put(
            [record(str(n), f"{n}.1", f"{n}.1.1", StudyDate=... if n in (4, 5) else "20240131") for n in range(8)]
        )
        for is_descending, expected in ((False, "01236745"), (True, "76321045")):
            found = rows(index, Level.STUDY, order=Order("00080020", is_descending))
            assert "".join(value(row, "0020000D") for row in found) == expected

    def test_a_time_orders_studies_of_one_day(self, index: Index) -> None:
        for study, time in (("1", "12"), ("2", "0959"), ("3", ...), ("4", "235959.5")):
            index.put([record(study, f"{study}.1", f"{study}.1.1", StudyTime=time)])
        found = rows(index, Level.STUDY, order=Order("00080020"))
        assert [value(row, "0020000D") for row in found] == ["3", "2", "1", "4"]

    @pytest.mark.parametrize(
        ("level", "tag"), [(Level.SERIES, "00080020"), (Level.STUDY, "00180050"), (Level.IMAGE, "00200013")]
    )
    def test_what_a_level_is_not_ordered_by_is_refused(self, index: Index, level: Level, tag: str) -> None:
        with pytest.raises(Invalid):
            index.search(Query(level, {}, order=Order(tag)))

    def test_words_find_series_no_more_than_instances(self, index: Index) -> None:
        with pytest.raises(Invalid):
            index.search(Query(Level.SERIES, {}, text="doe"))

    def test_a_renamed_patient_is_found_by_the_new_name_in_all_studies(self, index: Index) -> None:
        index.put([record("1"), record("2", "2.1", "2.1.1")])
        index.put([record("2", "2.1", "2.1.2", PatientName="Röntgen^Wilhelm")])
        assert len(rows(index, Level.STUDY, text="rontgen wil")) == 2
        assert rows(index, Level.STUDY, text="doe") == []

    def test_labels_stay_when_a_study_goes_and_comes_again(self, index: Index) -> None:
        index.put([record()])
        label(index, ModelIndex(), "1", ["red"])
        index.delete(Target("1"), NOW)
        assert (index.label_counts(), index.labels_of(["1"])) == ({}, {})
        index.put([record()])
        assert (index.label_counts(), index.labels_of(["1"])) == ({"red": 1}, {"1": ["red"]})
        index.clear()
        assert rows(index, Level.STUDY, text="red") == []
        index.put([record()])
        assert len(rows(index, Level.STUDY, text="red", labels=frozenset({"red"}))) == 1

    def _compare(self, index: Index, model: ModelIndex, rng: random.Random) -> None:
        study = rng.choice("1234")
        within = rng.choice([None, None, Target(study), Target(study, f"{study}.1")])
        fields = rng.choice(
            [
                ALL_LEVELS,
                Fields(frozenset(rng.sample(LEVELS, 2))),
                Fields(frozenset({Level.STUDY}), frozenset(rng.sample(NAMED_TAGS, 6))),
                Fields(everything=True),
            ]
        )
        query = Query(rng.choice(LEVELS), random_keys(rng), within, fields, count=True)
        expected, inconsistent = model.search(query)
        page = index.search(query)
        assert [orjson.loads(row) for row in page.rows] == expected, query
        assert all(list(orjson.loads(row)) == sorted(orjson.loads(row)) for row in page.rows)
        assert (page.total, set(page.inconsistent), page.next) == (len(expected), inconsistent, None), query
        offset, limit = rng.randrange(3), rng.randrange(1, 4)
        part = index.search(Query(query.level, query.keys, within, fields, limit=limit, offset=offset))
        assert part.rows == page.rows[offset : offset + limit]
        assert (part.next is None) == (offset + limit >= len(expected))
        assert index.select(query.keys, within) == model.select(query.keys, within), query
        assert index.locate(Target(study)) == model.select({}, Target(study))
        counts = index.counts()
        found = (counts.patients, counts.studies, counts.series, counts.instances, counts.size_bytes)
        assert found == model.counts()
        kept = {entry.record.blob.key for entry in model.entries.values()} | {one.blob.key for one in model.superseded}
        assert {one.blob.key for one in index.stored()} == kept
