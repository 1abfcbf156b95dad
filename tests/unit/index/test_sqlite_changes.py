"""UIDs of changes are kept short, and come back whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pacs.index.sqlite_changes import _shortened, _whole

UIDS = st.text("12.", max_size=12) | st.text(max_size=12)


@given(UIDS, UIDS)
def test_a_shortened_uid_comes_back_whole(uid: str, before: str) -> None:
    assert _whole(_shortened(uid, before), before) == uid


def test_what_is_common_is_left_out() -> None:
    assert _shortened("1.2.840.1.7", "1.2.840.1") == chr(10) + ".7"
