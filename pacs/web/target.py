"""What a path names."""

from __future__ import annotations

from aiohttp import web

from pacs.dicom import uids
from pacs.dicom.model import Target
from pacs.errors import Invalid, NotFound


def target_of(request: web.Request) -> Target:
    """The study, series or instance of the path. Raises Invalid for a UID that cannot be one."""
    study_uid = uid_of(request, "study")
    if study_uid is None:
        raise NotFound("There is nothing at this address")
    return Target(study_uid, uid_of(request, "series"), uid_of(request, "instance"))


def uid_of(request: web.Request, name: str) -> str | None:
    """A UID of the path by its placeholder, None when the path has none."""
    uid = request.match_info.get(name)
    if uid is not None and not uids.is_possible(uid):
        raise Invalid(f"The {name} in the path is not a UID", name)
    return uid


def frame_numbers(text: str, most: int = 100_000) -> list[int]:
    """ "1,3,5" or "1-4,7" as numbers in the order asked. Raises Invalid."""
    numbers: list[int] = []
    for piece in text.split(","):
        low, dash, high = piece.strip().partition("-")
        ends = (low, high) if dash else (low, low)
        if not all(end.isascii() and end.isdigit() and len(end) < 10 and int(end) > 0 for end in ends):
            raise Invalid("Frames are numbers from 1, joined by commas", "frames")
        first, last = int(ends[0]), int(ends[1])
        if last < first or len(numbers) + last - first >= most:
            raise Invalid(f"At most {most} frames, in ascending ranges", "frames")
        numbers.extend(range(first, last + 1))
    return numbers
