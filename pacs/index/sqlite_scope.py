"""What a caller may see, and labels, as conditions of a search."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import orjson

from pacs.dicom.model import Level, Scope
from pacs.index.sqlite_conditions import NEVER, Condition

_ANY_OF = "(SELECT value FROM json_each(?))"


def conditions(scope: Scope, labels: Collection[str], *, within: bool) -> Iterator[tuple[Level, Condition]]:
    """On rows of studies and series. within: a few studies are asked about, not all that bear a label found first."""
    for asked in (scope.labels, labels or None):
        if asked is None:
            continue
        if within:
            bears = f"SELECT 1 FROM study_labels b WHERE b.study_uid = s.c0020000D AND b.label IN {_ANY_OF}"
            yield Level.STUDY, (f"EXISTS ({bears})", [_listed(asked)])
        else:
            sql, values = _labelled(asked)
            yield Level.STUDY, (f"s.id IN ({sql})", values)
    if scope.studies is not None:
        yield Level.STUDY, (f"s.c0020000D IN {_ANY_OF}", [_listed(scope.studies)])
    if scope.modalities is not None:
        yield Level.SERIES, (f"e.modality IN {_ANY_OF}", [_listed(scope.modalities)])


def study_ids(scope: Scope, labels: Collection[str], *, with_modalities: bool) -> Iterator[Condition]:
    """The same as SELECTs of ids of studies, all of which a study has to be in."""
    for one in (scope.labels, labels or None):
        if one is not None:
            yield _labelled(one)
    if scope.studies is not None:
        yield f"SELECT id FROM studies WHERE c0020000D IN {_ANY_OF}", [_listed(scope.studies)]
    if with_modalities and scope.modalities is not None:
        yield f"SELECT study_id FROM series WHERE modality IN {_ANY_OF}", [_listed(scope.modalities)]


def on_one(scope: Scope) -> Condition:
    """What a study s and its series e meet that are visible."""
    if scope.is_everything:
        return "1", []
    found = [one for _, one in conditions(scope, (), within=True)] or [NEVER]
    return " AND ".join(sql for sql, _ in found), [value for _, values in found for value in values]


def on_study(scope: Scope) -> Condition:
    """What a study s meets in which something is visible."""
    found = []
    for level, (sql, values) in conditions(scope, (), within=True):
        in_series = f"EXISTS (SELECT 1 FROM series e INDEXED BY series_study WHERE e.study_id = s.id AND {sql})"
        found.append((in_series if level is Level.SERIES else sql, values))
    return " AND ".join(sql for sql, _ in found) or "1", [value for _, values in found for value in values]


def _labelled(labels: Collection[str]) -> Condition:
    sql = "SELECT z.id FROM study_labels b JOIN studies z ON z.c0020000D = b.study_uid WHERE b.label IN "
    return sql + _ANY_OF, [_listed(labels)]


def _listed(values: Collection[str]) -> str:
    return orjson.dumps(sorted(values)).decode()
