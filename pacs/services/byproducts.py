"""Files that raccoon-dicom made from the instances beside them; an archive taken over in place keeps them around."""

from __future__ import annotations

import re

# Keys of our own end in .dcm; none of them can look like one of these.
_MADE = re.compile(r"(?:.*/)?bulkData/.+\.raw|.+\.metadata\.json|.+\.\d+\.jpg", re.DOTALL)


def is_byproduct(key: str) -> bool:
    """Whether a key of the store names a value of bulk data, a metadata document or a frame's JPEG of raccoon's."""
    return _MADE.fullmatch(key) is not None
