from __future__ import annotations

import pytest

from pacs.errors import Invalid
from pacs.web.target import frame_numbers


@pytest.mark.parametrize(
    ("text", "numbers"), [("1", [1]), ("3,1,3", [3, 1, 3]), ("1, 2", [1, 2]), ("2-4,1", [2, 3, 4, 1])]
)
def test_frames_come_in_the_order_asked(text: str, numbers: list[int]) -> None:
    assert frame_numbers(text) == numbers


@pytest.mark.parametrize("text", ["", "0", "a", "1,,2", "-1", "4-2", "1-", "1.5", "²", "1-99999999", "9" * 30])
def test_what_is_no_list_of_frames_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        frame_numbers(text)
