"""All that a server offers over HTTP, as its settings have it: for whoever describes it without running it."""

from __future__ import annotations

from pacs.web import (
    about,
    accounts,
    changes,
    commitment,
    commitments,
    jobs,
    labels,
    log,
    manual,
    page,
    peers,
    performed,
    sends,
    session,
    storage,
    system,
    trash,
    ups,
    viewer,
    worklist,
)
from pacs.web.fhir_capabilities import CONVERSION, read_operations
from pacs.web.operations import Operation, operations


def all_operations(*, with_delete: bool, with_administration: bool) -> list[Operation]:
    """DICOMweb's own, then those of other services."""
    services = (
        worklist,
        performed,
        ups,
        commitment,
        changes,
        labels,
        sends,
        session,
        accounts,
        page,
        viewer,
        about,
        manual,
    )
    deleting = (trash,) if with_delete else ()
    administration = (jobs, peers, commitments, storage, system, log) if with_administration else ()
    return [
        *operations(with_delete=with_delete),
        *(operation for module in (*services, *deleting, *administration) for operation in module.OPERATIONS),
        *(accounts.ADMINISTRATION if with_administration else ()),
        *read_operations(),
        CONVERSION,
    ]
