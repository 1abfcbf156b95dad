"""What the archive holds of each modality, counted some studies at a time, in the SQLite index."""

from __future__ import annotations

import sqlite3
from collections import defaultdict

from pacs.index.base import Usage, UsagePage

_PAGE = "SELECT MAX(id), COUNT(*) FROM (SELECT id FROM studies WHERE id > ? ORDER BY id LIMIT ?)"
_USAGE = (
    "SELECT e.study_id, e.modality, COUNT(DISTINCT e.id), COUNT(*), SUM(i.size_bytes)"
    " FROM studies s CROSS JOIN series e ON e.study_id = s.id CROSS JOIN instances i ON i.series_id = e.id"
    " WHERE s.id > ? AND s.id <= ? GROUP BY e.study_id, e.modality"
)


def page(connection: sqlite3.Connection, after: str, studies: int) -> UsagePage:
    """See ``Index.usage``."""
    first = int(after or 0)
    last, found = connection.execute(_PAGE, (first, studies)).fetchone()
    if not found:
        return UsagePage({}, None)
    sums: defaultdict[str, Usage] = defaultdict(Usage)
    for _, modality, series, instances, size_bytes in connection.execute(_USAGE, (first, last)):
        sums[modality] += Usage(1, series, instances, size_bytes)
    return UsagePage(dict(sums), str(last) if found == studies else None)
