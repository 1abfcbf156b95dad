"""All that a server offers over HTTP, as its settings have it: for whoever describes it without running it."""

from __future__ import annotations

from pacs.web import (
    about,
    accounts,
    audit,
    changes,
    commitment,
    commitments,
    jobs,
    labels,
    log,
    manual,
    metrics,
    oidc,
    page,
    peers,
    performed,
    sends,
    session,
    shares,
    storage,
    system,
    trash,
    ups,
    viewer,
    worklist,
)
from pacs.web.fhir_capabilities import CONVERSION, read_operations
from pacs.web.operations import Operation, operations


def all_operations(*, with_delete: bool, with_administration: bool, with_oidc: bool = False) -> list[Operation]:
    """DICOMweb's own, then those of other services."""
    procedures = (worklist, performed, ups, commitment)
    services = (*procedures, changes, labels, sends, session, shares, accounts, page, viewer, about, manual)
    deleting = (trash,) if with_delete else ()
    administration = (jobs, peers, commitments, metrics, audit, storage, system, log) if with_administration else ()
    return [
        *operations(with_delete=with_delete),
        *(operation for module in (*services, *deleting, *administration) for operation in module.OPERATIONS),
        *(oidc.OPERATIONS if with_oidc else ()),
        *(accounts.ADMINISTRATION if with_administration else ()),
        *read_operations(),
        CONVERSION,
    ]
