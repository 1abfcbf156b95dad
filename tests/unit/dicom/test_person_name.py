"""Person names without what does not count."""

from __future__ import annotations

import pytest

from pacs.dicom import person_name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MÜLLER", "muller"),
        ("Mu\u0308ller", "Müller"),
        ("Straße", "STRASSE"),
        ("ΓΙΏΡΓΟΣ", "Γιωργος"),
        ("İstanbul", "istanbul"),
        ("Łódź", "lodz"),
        ("ﾔﾏﾀﾞ", "ヤマダ"),
        ("Ｙａｍａｄａ", "yamada"),
        ("Й", "и"),
    ],
)
def test_case_accents_and_width_do_not_count(one: str, other: str) -> None:
    assert person_name.fold(one) == person_name.fold(other)


@pytest.mark.parametrize(("one", "other"), [("か", "が"), ("は", "ぱ"), ("ㄱ", "ㅋ"), ("山", "出"), ("o", "ö x")])
def test_letters_that_are_others_stay_others(one: str, other: str) -> None:
    assert person_name.fold(one) != person_name.fold(other)


def test_hangul_syllables_stay_whole() -> None:
    assert person_name.fold("홍길동") == "홍길동"


@pytest.mark.parametrize(
    ("value", "groups"),
    [
        ({"Alphabetic": "Doe^John^^"}, ("doe^john", "", "")),
        ({"Ideographic": "山田^太郎"}, ("", "山田^太郎", "")),
        ("Doe ^ John=山田=やまだ", ("doe^john", "山田", "やまだ")),
        ("^^^", ("", "", "")),
        ("^John", ("^john", "", "")),
        ({"Alphabetic": None}, ("", "", "")),
    ],
)
def test_groups_lose_their_padding(value: object, groups: tuple[str, str, str]) -> None:
    assert person_name.groups(value) == groups


def test_names_pass_between_text_and_json() -> None:
    assert person_name.to_json("A^B==C") == {"Alphabetic": "A^B", "Phonetic": "C"}
    assert person_name.to_text({"Alphabetic": "A^B", "Phonetic": "C"}) == "A^B==C"
    assert person_name.to_text({"Ideographic": "山"}) == "=山"
    assert person_name.to_text("A^B") == "A^B"


@pytest.mark.parametrize(
    ("one", "other"), [("meyer", "maier"), ("smith", "smyth"), ("robert", "rupert"), ("ashcraft", "ashcroft")]
)
def test_words_that_sound_alike_share_a_sound(one: str, other: str) -> None:
    assert person_name.sound(one) == person_name.sound(other) != ""


def test_soundex_codes_are_the_known_ones() -> None:
    known = {"robert": "R163", "ashcraft": "A261", "tymczak": "T522", "pfister": "P236", "honeyman": "H555"}
    assert {word: person_name.sound(word).upper() for word in known} == known


def test_every_word_of_the_key_has_to_be_in_the_name() -> None:
    name = person_name.groups("Doe^John Paul=山田^太郎")
    assert person_name.is_like(("jo", "do"), name)
    assert person_name.is_like(("paul", "山"), name)
    assert not person_name.is_like(("john", "ringo"), name)
    assert not person_name.is_like(("太",), person_name.groups("=山田太郎"))
