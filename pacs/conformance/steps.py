"""The part of the Conformance Statement that is about Unified Procedure Steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pacs.conformance.document import Section

if TYPE_CHECKING:
    from pacs.settings import Settings


def step_sections(settings: Settings) -> Iterator[Section]:
    """What PS3.4 CC.4.2.1 wants to be told."""
    from pacs.dimse.status import CAVEATS, status_of
    from pacs.services import ups_outcomes
    from pacs.services.ups_attributes import RULES
    from pacs.services.ups_step import WORKLIST_LABEL
    from pacs.web import problem

    kept = f"{settings.ups_keep_days:g} days" if settings.ups_keep_days else "for ever"
    yield Section(
        "Unified Procedure Step",
        1,
        (
            "Steps are created SCHEDULED. Attributes of type 2 that are absent are created empty, an absent Worklist"
            f" Label as {WORKLIST_LABEL}; Scheduled Procedure Step Modification DateTime is the archive's. The creator"
            " is not subscribed by that.",
            "States change by N-ACTION alone. The archive itself cancels a step that is SCHEDULED when its cancellation"
            " is requested; it performs none. When a step is canceled it fills in Procedure Step Cancellation DateTime,"
            " and for an absent reason (110513, DCM, Discontinued for unspecified reason).",
            f"A step that is COMPLETED or CANCELED stays, and can be retrieved, {kept}; longer while a deletion lock"
            " holds it. No subscription and no deletion lock is refused, and the archive removes none; over DIMSE the"
            " Receiving AE has to be a known peer. Filtered global subscriptions are supported.",
            "Matching is that of all queries (PS3.4 C.2.2.2); person names without regard to case and accents; priority"
            " and extended negotiation have no effect. Answers are in ISO_IR 192 where they are not ASCII.",
        ),
        (
            ("DIMSE status", "HTTP status", "Meaning"),
            *(
                (f"{code:04X}H", "200, 201 or 202", f"Warning: {problem.CAVEATS[caveat]}")
                for caveat, code in CAVEATS.items()
            ),
            *(
                (
                    f"{status_of(error, normalized=True).code:04X}H",
                    str(problem.status_of(error).value),
                    (error.__doc__ or "").partition("\n")[0],
                )
                for error in ups_outcomes.examples()
            ),
        ),
    )
    yield Section(
        "Attributes of a Unified Procedure Step",
        2,
        (
            "Requirements of PS3.4 Table CC.2.5-3 that are checked. 1: has to have a value; 2: may be empty; 3: is"
            " optional; v: is optional, but has a value; e: has to be empty; s: set by the archive; -: not allowed."
            " Final state: R for both, P for COMPLETED, X for CANCELED, p for COMPLETED but without items.",
        ),
        (
            ("Tag", "N-CREATE", "N-SET", "Final state"),
            *((" > ".join(f"({t[:4]},{t[4:]})" for t in r.path), r.create, r.update, r.final) for r in RULES),
        ),
    )
