"""The conformance statement's sections of storage, storage commitment and query keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pacs import errors
from pacs.conformance.document import Section, yes

if TYPE_CHECKING:
    from pacs.settings import Settings


def storage_sections(settings: Settings) -> Iterator[Section]:
    from pydicom._uid_dict import UID_dictionary

    from pacs.dicom import transfer_syntax
    from pacs.dicom.uids import is_storage_class
    from pacs.dimse.models import is_storage
    from pacs.dimse.status import status_of
    from pacs.imaging.decode import can_decode
    from pacs.imaging.transcode import TARGETS
    from pacs.web.problem import failure_reason

    kinds = (
        *(errors.Conflict, errors.NotStorable, errors.ClassMismatch, errors.StudyMismatch, errors.Unreadable),
        *(errors.MissingAttribute, errors.MissingValue, errors.InvalidValue, errors.TooLarge, errors.OutOfResources),
    )
    policy = {
        "reject": "is refused: failure 0111H, the stored one stays",
        "replace": "replaces the stored one, whose file is kept until a purge",
    }[settings.duplicates]
    yield Section(
        "Storage",
        1,
        (
            "Level 2 (full), without coercion: the stored data set is byte for byte the received one; only preamble and"
            " file meta information are written anew where they do not fit.",
            f"An instance that is stored already with other content {policy}.",
            "Success is answered when data set and index are on disk.",
        ),
        (
            ("C-STORE status", "STOW-RS failure reason", "Meaning"),
            ("0000H", "", "Stored, or stored already with the same content."),
            *(
                (
                    f"{status_of(kind('')).code:04X}H",
                    f"{failure_reason(kind('')):04X}H",
                    (kind.__doc__ or "").partition("\n")[0],
                )
                for kind in kinds
            ),
        ),
    )
    syntaxes = [
        (syntax.name, syntax.uid, "yes", yes(can_decode(syntax.uid)), yes(syntax.uid in TARGETS))
        for syntax in transfer_syntax.ALL
    ]
    yield Section(
        "Transfer syntaxes",
        2,
        ("Instances in other (private, future) transfer syntaxes are stored and returned as they are.",),
        (("Name", "UID", "Stored and returned", "Decoded", "Made from others"), *syntaxes),
    )
    classes = sorted(
        (entry[0], uid)
        for uid, entry in UID_dictionary.items()
        if entry[1] == "SOP Class" and is_storage_class(uid) and is_storage(uid)
    )
    yield Section(
        "Storage SOP classes",
        2,
        ("Private SOP classes and those younger than this list are stored too.",),
        (("SOP class", "UID"), *classes),
    )


def commitment_section(settings: Settings) -> Section:
    from pacs.services.commitment import Failure

    looked_at = {
        "digest": "in the index, and its stored file is there, read through, and holds what was received",
        "presence": "in the index, and its stored file is there with the right size",
    }[settings.commitment_verify]
    wait_s = settings.commitment_wait_s
    same = f"on the requester's association while it rests within {wait_s:g} s, else " if wait_s else ""
    meanings = {
        Failure.PROCESSING: "The stored file is missing or damaged.",
        Failure.NO_SUCH_OBJECT: "Not stored here, or deleted.",
        Failure.CLASS_INSTANCE_CONFLICT: "Stored under another SOP class.",
    }
    return Section(
        "Storage commitment",
        1,
        (
            f"An instance is committed when it is {looked_at}. It is kept until somebody deletes it.",
            f"The N-EVENT-REPORT goes out {same}on a new association to the requester's AE title among the known peers,"
            " where the archive proposes the SCP role; it is repeated, ever more seldom, for"
            f" {settings.jobs_give_up_days:g} days. File-Set ID and UID are not used; Retrieve AE Title is sent.",
            "As SCU the archive asks peers for what they were sent; an answer may come on that association or on one"
            f" that the peer opens. After {settings.commitment_again_s:g} s without one it asks again, under another"
            " Transaction UID.",
        ),
        (("Failure reason", "Meaning"), *((f"{why:04X}H", meaning) for why, meaning in meanings.items())),
    )


def query_sections() -> Iterator[Section]:
    from pacs.dicom.attributes import ALL

    rows = [
        (
            f"({attribute.tag[:4]},{attribute.tag[4:]})",
            attribute.keyword,
            attribute.vr,
            attribute.level.name.title(),
            yes(attribute.default),
        )
        for attribute in ALL
    ]
    yield Section(
        "Query keys",
        1,
        (
            "C-FIND and QIDO-RS search by the same keys and the same matching (PS3.4 C.2.2.2): single value, list of"
            " UIDs, wildcard, range, combined date and time, sequence, empty value. Any other attribute of an instance,"
            " private ones too, can be a key; it is matched without an index. Queries may be relational.",
        ),
        (("Tag", "Keyword", "VR", "Level", "Returned by QIDO-RS unasked"), *rows),
    )
