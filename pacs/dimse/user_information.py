"""Sub-items of the User Information item of A-ASSOCIATE PDUs (PS3.7 Annex D.3.3), encoded and decoded by pynetdicom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.uid import UID
from pynetdicom.pdu_items import UserIdentitySubItemRQ, UserInformationItem
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from pacs.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pacs.dimse.user import Identity, IdentityType


def user_information(items: Sequence[object]) -> UserInformationItem:
    """Of a request or an answer; an empty one where there is none."""
    for item in items:
        if isinstance(item, UserInformationItem):
            return item
    return UserInformationItem()


def identity_of(user: UserInformationItem) -> Identity | None:
    """Who a requestor says that it is (D.3.3.7)."""
    item = user.user_identity
    if not isinstance(item, UserIdentitySubItemRQ):
        return None
    return Identity(
        int(item.user_identity_type or 0),
        bytes(item.primary_field or b""),
        bytes(item.secondary_field or b""),
        bool(item.positive_response_requested),
    )


def operations_of(user: UserInformationItem) -> tuple[int, int] | None:
    """Asked to be invoked and performed at once (D.3.3.3); 0 is any number."""
    item = user.async_ops_window
    return (int(item.max_operations_invoked or 0), int(item.max_operations_performed or 0)) if item else None


def own_information(max_pdu: int) -> list[Any]:
    """What we always say: largest PDU (PS3.8 D.1), implementation class and version (D.3.3.2)."""
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return [length, implementation, version]


def role(uid: str, scu: bool, scp: bool) -> SCP_SCU_RoleSelectionNegotiation:
    """D.3.3.4."""
    item = SCP_SCU_RoleSelectionNegotiation()
    item.sop_class_uid = UID(uid)
    item.scu_role = scu
    item.scp_role = scp
    return item


def extension(uid: str, granted: bytes) -> SOPClassExtendedNegotiation:
    """D.3.3.5."""
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = UID(uid)
    item.service_class_application_information = granted
    return item


def one_operation() -> AsynchronousOperationsWindowNegotiation:
    """One at a time, in both directions (D.3.3.3)."""
    item = AsynchronousOperationsWindowNegotiation()
    item.maximum_number_operations_invoked = 1
    item.maximum_number_operations_performed = 1
    return item


def identity(user: Identity) -> UserIdentityNegotiation:
    """Of a request (D.3.3.7.1)."""
    item = UserIdentityNegotiation()
    item.user_identity_type = user.kind
    item.positive_response_requested = user.wants_answer
    item.primary_field = user.primary
    if user.kind == IdentityType.USERNAME_PASSCODE:
        item.secondary_field = user.secondary
    return item


def confirmation() -> UserIdentityNegotiation:
    """The positive response (D.3.3.7.2); it is empty but for Kerberos and SAML."""
    item = UserIdentityNegotiation()
    item.server_response = b""
    return item
