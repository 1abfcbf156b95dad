"""Searches on behalf of those who see a part of the archive: rows tell nothing of what lies beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from pacs.dicom.attributes import BY_TAG
from pacs.dicom.json_model import dumps
from pacs.dicom.matchers import Matcher, Single, TagPath, UidList, ValueList
from pacs.dicom.matching import is_universal, matches
from pacs.dicom.model import Level, Scope
from pacs.index.base import Fields, Index, Page, Query
from pacs.services.access import narrowed

_STUDY_UID, _SERIES_INSTANCES = "0020000D", "00201209"
_MODALITIES, _STUDY_SERIES, _STUDY_INSTANCES = "00080061", "00201206", "00201208"
# Of all that a patient has, and of all classes of a study: what of it is visible would cost a search a row.
_PATIENT_TOTALS = ("00201200", "00201202", "00201204")
_CLASSES = "00080062"


@dataclass
class _Seen:
    """Of one study. first: of one of its series, what studies do not keep themselves."""

    series: int = 0
    instances: int = 0
    first: Mapping[str, Any] = field(default_factory=dict)


def search_visible(index: Index, query: Query, scope: Scope) -> Page:
    """What ``Index.search`` finds within a scope that has limits.

    ModalitiesInStudy, and the numbers of series and instances, are those of what is visible; totals of patients, and
    SOPClassesInStudy where modalities may be hidden, are left out. Nobody finds anything by what they are not told.
    """
    query = replace(query, scope=narrowed(query.scope, scope))
    keys = _keys_on_visible(query.keys, query.scope)
    if keys is None:
        return Page([], total=0 if query.count else None)
    query = replace(query, keys=keys)
    borrowed: frozenset[str] = frozenset()
    if query.level is Level.PATIENT or (query.level is Level.STUDY and query.scope.modalities is not None):
        # The index takes these from any instance, be it a hidden one.
        borrowed = frozenset(tag for tag in query.fields.tags if not _is_kept(tag, query.level))
        query = replace(query, fields=replace(query.fields, tags=query.fields.tags - borrowed))
    if query.scope.modalities is not None and query.level is not Level.PATIENT:
        query = replace(query, fields=replace(query.fields, tags=query.fields.tags | {_STUDY_UID}))
    page = index.search(query)
    rows: list[dict[str, Any]] = [orjson.loads(row) for row in page.rows]
    seen = _seen_of(index, rows, query, borrowed)
    return replace(page, rows=[dumps(_corrected(row, query.scope, seen, borrowed)) for row in rows])


def _keys_on_visible(keys: Mapping[TagPath, Matcher], scope: Scope) -> Mapping[TagPath, Matcher] | None:
    """None when nothing can match. Totals match whatever is asked, as optional keys do that are not supported."""
    untold = {*_PATIENT_TOTALS}
    if scope.modalities is not None:
        untold |= {_CLASSES, _STUDY_SERIES, _STUDY_INSTANCES}
    kept = {path: matcher for path, matcher in keys.items() if path[0] not in untold}
    asked = kept.get((_MODALITIES,))
    if scope.modalities is None or asked is None or is_universal(asked):
        return kept
    seen = [
        modality
        for modality in sorted(scope.modalities)
        if matches(asked, (_MODALITIES,), {_MODALITIES: {"vr": "CS", "Value": [modality]}})
    ]
    return {**kept, (_MODALITIES,): ValueList(tuple(map(Single, seen)))} if seen else None


def _seen_of(
    index: Index, rows: Sequence[Mapping[str, Any]], query: Query, borrowed: frozenset[str]
) -> Mapping[str, _Seen]:
    """What of the rows' studies is visible; nothing where no row says anything that depends on it."""
    if query.scope.modalities is None or query.level is Level.PATIENT:
        return {}
    told = {_STUDY_SERIES, _STUDY_INSTANCES}
    uids = sorted({_study(row) for row in rows if borrowed or told & row.keys()})
    if not uids:
        return {}
    fields = Fields(tags=borrowed | {_STUDY_UID, _SERIES_INSTANCES})
    asked = Query(Level.SERIES, {(_STUDY_UID,): UidList(tuple(uids))}, fields=fields, scope=query.scope)
    found: dict[str, _Seen] = {}
    for row in map(orjson.loads, index.search(asked).rows):
        seen = found.setdefault(_study(row), _Seen(first=row))
        seen.series += 1
        seen.instances += int((row.get(_SERIES_INSTANCES, {}).get("Value") or [0])[0])
    return found


def _corrected(
    row: dict[str, Any], scope: Scope, seen: Mapping[str, _Seen], borrowed: frozenset[str]
) -> dict[str, Any]:
    for tag in _PATIENT_TOTALS:
        row.pop(tag, None)
    if scope.modalities is None:
        return row
    row.pop(_CLASSES, None)
    if _MODALITIES in row:
        values = [value for value in row[_MODALITIES].get("Value", ()) if value in scope.modalities]
        row[_MODALITIES] = {"vr": "CS", "Value": values} if values else {"vr": "CS"}
    of_study = seen.get(_study(row))
    if of_study is None:
        return row
    for tag, number in ((_STUDY_SERIES, of_study.series), (_STUDY_INSTANCES, of_study.instances)):
        if tag in row:
            row[tag] = {**row[tag], "Value": [number]}
    added = {tag: of_study.first[tag] for tag in borrowed if tag in of_study.first}
    return dict(sorted({**row, **added}.items())) if added else row


def _is_kept(tag: str, level: Level) -> bool:
    known = BY_TAG.get(tag)
    return known is not None and known.level <= level


def _study(row: Mapping[str, Any]) -> str:
    values = row.get(_STUDY_UID, {}).get("Value")
    return str(values[0]) if values else ""
