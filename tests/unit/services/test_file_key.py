"""Keys of stored files: the seed's patterns, and nothing that a hostile UID can do with them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest

from pacs.dicom.layout import Layout
from pacs.dicom.model import Header, Target
from pacs.errors import Invalid
from pacs.services.file_key import FileKeyPattern, java_hash, safe_name

WHEN = datetime(2026, 11, 4, 23, 5, 6, tzinfo=UTC)


def header(study_uid: str = "1.2.3") -> Header:
    attributes = {
        "0020000D": {"vr": "UI", "Value": [study_uid]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jörg"}]},
        "00080020": {"vr": "DA"},
    }
    return Header(Target(study_uid, "1.2", "1.3"), "1.4", "1.2.840.10008.1.2.1", 300, attributes, Layout())


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{now,date,yyyy/MM}/{0020000D}", "2026/11/1.2.3"),
        ("{now,date,yyyy-MM-dd}/{0020000d}.dcm", "2026-11-04/1.2.3"),
        ("DICOM/{0020000D,hash}/x", "DICOM/02C82A3A/x"),
        ("{now,date,HHmmss}/a", "230506/a"),
    ],
)
def test_a_pattern_is_filled_in_and_ends_with_a_unique_suffix(pattern: str, expected: str) -> None:
    key = FileKeyPattern(pattern).key(header(), WHEN)
    assert re.fullmatch(re.escape(expected) + r"-[0-9a-f]{12}\.dcm", key), key


def test_two_keys_of_one_instance_differ() -> None:
    pattern = FileKeyPattern("{0020000D}")
    assert len({pattern.key(header(), WHEN) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "pattern",
    ["", ".dcm", "{0020000D", "a}b", "{0020000D,md5}", "{PatientID}", "../{0020000D}", "a/./b", "{now,date,QQ}"],
)
def test_a_pattern_that_cannot_work_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(Invalid) as caught:
        FileKeyPattern(pattern)
    assert caught.value.subject == "DICOM_STORE_FILEPATH"


@pytest.mark.parametrize("uid", ["../../etc/passwd", "..", ".", "", "a/b", "1.2\x00.3", "x" * 5000, "日本", "con:1|2"])
def test_a_hostile_value_stays_one_short_path_part(uid: str) -> None:
    key = FileKeyPattern("{0020000D}/{00100010}/{00080020}").key(header(uid), WHEN)
    parts = PurePosixPath(key).parts
    assert len(parts) == 3
    assert all(len(part) < 160 and part.isascii() and not part.startswith(".") for part in parts)


def test_different_values_never_share_a_name() -> None:
    texts = ["a/b", "a_b", "a:b", "A_b", ".a", "a", "", "_"]
    assert len({safe_name(text) for text in texts}) == len(texts)


# What raccoon-dicom made of these UIDs: the hash in base 61, a "Z" before it when negative.
@pytest.mark.parametrize(
    ("uid", "written"),
    [
        ("1.2.3", "3mBY0"),
        ("1.2.840.113619.2.55.3.604688119.969.1268071029.320", "Z1p140e"),
        ("2.25.1", "1JyscS"),
    ],
)
def test_the_hash_is_java_s(uid: str, written: str) -> None:
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    value = 0
    for digit in written.removeprefix("Z"):
        value = value * 61 + digits.index(digit)
    assert java_hash(uid) == (-value if written.startswith("Z") else value)
