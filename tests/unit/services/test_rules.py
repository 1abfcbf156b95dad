"""Forwarding rules: what a file may say, and what they match."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pacs.dicom.model import Caller
from pacs.errors import Invalid
from pacs.services.rules import Moment, load, sentence
from tests import builders

ATTRIBUTES = builders.json_of(
    {"Modality": "CT", "StudyDescription": "CT Thorax", "PatientName": "Müller^Änne", "StudyDate": "20260504"}
)
SCANNER = Caller("CT[1]", "10.0.0.1", "dimse")


def rules(tmp_path: Path, text: str, peers: tuple[str, ...] = ("READING",)):  # type: ignore[no-untyped-def]
    path = tmp_path / "rules.toml"
    path.write_text(text)
    return load(path, lambda name: name in peers)


def test_a_rule_says_what_it_does(tmp_path: Path) -> None:
    (rule,) = rules(
        tmp_path,
        """
        [[rule]]
        name = "all of it"
        on = "study"
        match = { Modality = ["CT", "MR"] }
        send = "READING"
        stow = ["https://a.example/dicom-web"]
        webhook = "http://b.example/hook"
        label = ["x", "y"]
        delete = "2w"
        """,
    )
    assert (rule.name, rule.moment, rule.callers) == ("all of it", Moment.STUDY, ())
    assert (rule.send, rule.stow, rule.webhook) == (
        ("READING",),
        ("https://a.example/dicom-web",),
        ("http://b.example/hook",),
    )
    assert (rule.label, rule.delete_after, rule.delete_after_sending) == (("x", "y"), timedelta(weeks=2), False)
    assert sentence(rule).startswith("send to READING; STOW to https://a.example/dicom-web; tell")


@pytest.mark.parametrize(
    ("match", "is_met"),
    [
        ('Modality = "CT"', True),
        ('Modality = "MR"', False),
        ('Modality = ["MR", "CT"]', True),
        ('StudyDescription = "*thorax*"', True),
        ('PatientName = "muller*"', True),
        ('StudyDate = "20260501-20260531"', True),
        ('StudyDate = "20260601-"', False),
        ('Modality = "CT", StudyDescription = "knee"', False),
        ('"00080060" = "CT"', True),
        ('"RequestAttributesSequence.ScheduledProcedureStepID" = "1"', False),
        ("", True),
    ],
)
def test_it_matches_as_a_query_does(tmp_path: Path, match: str, is_met: bool) -> None:
    (rule,) = rules(tmp_path, f'[[rule]]\nmatch = {{ {match} }}\nsend = "READING"\n')
    assert rule.concerns(ATTRIBUTES, SCANNER) is is_met


@pytest.mark.parametrize(("pattern", "is_met"), [("CT[1]", True), ("ct*", True), ("CT?1]", True), ("MR*", False)])
def test_it_may_ask_who_sends(tmp_path: Path, pattern: str, is_met: bool) -> None:
    (rule,) = rules(tmp_path, f'[[rule]]\nfrom = ["{pattern}"]\nsend = "READING"\n')
    assert rule.concerns(ATTRIBUTES, SCANNER) is is_met


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rule]", "not TOML"),
        ("[rules]\na = 1", "written as [[rule]]"),
        ("rule = 7", "written as [[rule]]"),
        ('[[rule]]\nname = "a"', "does nothing"),
        ('[[rule]]\nsend = "NOBODY"', "there is no peer NOBODY"),
        ('[[rule]]\nsend = "READING"\nto = "x"', "unknown: to"),
        ('[[rule]]\nsend = "READING"\non = "series"', "neither"),
        ('[[rule]]\nsend = "READING"\nmatch = { Modallity = "CT" }', "Modallity"),
        ('[[rule]]\nsend = "READING"\nmatch = { StudyDate = "yesterday" }', "StudyDate"),
        ('[[rule]]\nsend = "READING"\nmatch = { Modality = true }', "Modality"),
        ("[[rule]]\nsend = 7", "send is neither"),
        ('[[rule]]\non = "study"\nfrom = "CT1"\nsend = "READING"', "from goes with"),
        ('[[rule]]\nstow = "ftp://a"', "ftp://a is not"),
        ('[[rule]]\nlabel = "two words"', "not a label"),
        ('[[rule]]\nlabel = "x"\ndelete = "after sending"', "needs send or stow"),
        ('[[rule]]\ndelete = "soon"', "delete is neither"),
        ('[[rule]]\nlabel = "x"\ncommit = true', "commit needs send"),
        ('[[rule]]\nsend = "READING"\ncommit = "yes"', "commit is true or false"),
        (
            '[[rule]]\nsend = "READING"\nstow = "http://a"\ncommit = true\ndelete = "after sending"',
            "takes one peer in send, and no stow",
        ),
        ('[[rule]]\nname = "a"\nlabel = "x"\n[[rule]]\nname = "a"\nlabel = "y"', "two rules of this name"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Invalid, match=r"rules\.toml") as caught:
        rules(tmp_path, text)
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="No such file"):
        load(tmp_path / "none.toml")
