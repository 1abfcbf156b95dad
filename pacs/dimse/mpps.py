"""Modality Performed Procedure Step SCP: N-CREATE and N-SET, and N-GET of its Retrieve SOP class (PS3.4 F.7, F.8)."""

from __future__ import annotations

from pacs.dicom import performed_step
from pacs.dicom.model import Caller
from pacs.dimse.association import Message
from pacs.dimse.command import Field
from pacs.dimse.service import Service, read_attributes
from pacs.dimse.status import (
    ATTRIBUTE_LIST_ERROR,
    PROCESSING_FAILURE,
    REQUESTED_OPTIONAL_ATTRIBUTES_NOT_SUPPORTED,
    SUCCESS,
    Refused,
    Status,
)
from pacs.errors import NotFound, Unchangeable
from pacs.services.performed import PerformedSteps

RETRIEVE = "1.2.840.10008.3.1.2.3.4"
NO_LONGER_UPDATED = 0xA710  # Error ID (PS3.4 F.7.2.2.4)


def performed_services(performed: PerformedSteps) -> list[Service]:
    def create(message: Message, caller: Caller) -> None:
        sop_uid = performed.create(message.command.sop_uid, read_attributes(message), caller)
        message.respond(Status(SUCCESS), sop_uid=sop_uid)

    def change(message: Message, caller: Caller) -> None:
        try:
            ignored = performed.change(_instance(message), read_attributes(message), caller)
        except Unchangeable as error:
            text = "Performed Procedure Step Object may no longer be updated"
            raise Refused(Status(PROCESSING_FAILURE, text, error_id=NO_LONGER_UPDATED)) from error
        kept = Status(ATTRIBUTE_LIST_ERROR, "attributes that no N-SET may change stay as they were", ignored)
        message.respond(kept if ignored else Status(SUCCESS))

    def get(message: Message, caller: Caller) -> None:
        step = performed.step(_instance(message), caller)
        tags = message.command.attribute_list or tuple(step)
        unknown = tuple(tag for tag in tags if tag not in step)
        status = Status(REQUESTED_OPTIONAL_ATTRIBUTES_NOT_SUPPORTED, None, unknown) if unknown else Status(SUCCESS)
        message.respond(status, {tag: step[tag] for tag in tags if tag in step})

    return [
        Service("mpps", frozenset({performed_step.SOP_CLASS}), {Field.N_CREATE: create, Field.N_SET: change}),
        Service("mpps-retrieve", frozenset({RETRIEVE}), {Field.N_GET: get}),
    ]


def _instance(message: Message) -> str:
    uid = message.command.instance_uid
    if not uid:
        raise NotFound("the request names no SOP instance")
    return uid
