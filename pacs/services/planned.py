"""Whether somebody who sees a part of the archive sees what is planned there, or was performed."""

from __future__ import annotations

from collections.abc import Collection

from pacs.dicom import performed_step, worklist_item
from pacs.dicom.model import Attributes, Scope
from pacs.index.work import Work
from pacs.services.labels import Labels

_MODALITY = "00080060"


def sees_scheduled(scope: Scope, item: Attributes, work: Work) -> bool:
    """Of a worklist item: the modality is that of its step."""
    if scope.is_everything:
        return True
    modality = worklist_item.text_at(worklist_item.step_of(item), _MODALITY)
    return _sees(scope, {worklist_item.text_at(item, worklist_item.STUDY_UID)}, modality, work)


def sees_performed(scope: Scope, step: Attributes, work: Work) -> bool:
    """Of a performed procedure step: all studies that it is of have to be visible."""
    if scope.is_everything:
        return True
    references = performed_step.references(step)
    studies = {worklist_item.text_at(each, worklist_item.STUDY_UID) for each in references}
    return _sees(scope, studies, worklist_item.text_at(step, _MODALITY), work)


def _sees(scope: Scope, study_uids: Collection[str], modality: str, work: Work) -> bool:
    """What names no study is of none that bears a label."""
    if scope.modalities is not None and modality not in scope.modalities:
        return False
    if scope.studies is not None and not (study_uids and scope.studies.issuperset(study_uids)):
        return False
    if scope.labels is None:
        return True
    labels = Labels(work)
    return bool(study_uids) and all(scope.labels.intersection(labels.of(uid)) for uid in study_uids)
