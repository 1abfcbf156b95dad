"""The DICOM Conformance Statement (PS3.2), made from the running configuration and code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pacs import __version__
from pacs.conformance.document import Section, as_html, as_markdown, yes
from pacs.conformance.storage import commitment_section, query_sections, storage_sections

if TYPE_CHECKING:
    from pacs.settings import Settings


def as_text(settings: Settings, form: str) -> str:
    """The whole statement. form: markdown or html."""
    title = f"DICOM Conformance Statement: raccoon-pacs {__version__}"
    found = list(sections(settings))
    return as_html(title, found) if form == "html" else as_markdown(title, found)


def sections(settings: Settings) -> Iterator[Section]:
    """The statement's sections, in the order of PS3.2 Annex N as far as it applies."""
    from pacs.conformance.steps import step_sections

    yield Section(
        "Overview",
        1,
        (
            "raccoon-pacs stores, finds and returns DICOM composite instances over DIMSE and over DICOMweb, both on one"
            " index and one file store.",
        ),
        (
            ("Service", "Role", "Available"),
            ("Verification", "SCP", yes(settings.enable_dimse)),
            ("Storage (C-STORE)", "SCP; SCU of C-MOVE, C-GET and `pacs send`", yes(settings.enable_dimse)),
            ("Query/Retrieve (C-FIND, C-MOVE, C-GET)", "SCP", yes(settings.enable_dimse)),
            ("Composite Instance Root Retrieve (C-MOVE, C-GET)", "SCP", yes(settings.enable_dimse)),
            ("Composite Instance Retrieve Without Bulk Data (C-GET)", "SCP", yes(settings.enable_dimse)),
            ("Query/Retrieve of objects that belong to no patient", "SCP", yes(settings.enable_dimse)),
            ("Storage Commitment Push Model", "SCP, SCU", yes(settings.enable_dimse)),
            (
                "Instance Availability Notification",
                "SCP; SCU when IAN_AES names peers",
                yes(settings.enable_dimse or bool(settings.ian_aes)),
            ),
            ("Storage Commitment (DICOMweb)", "origin server", "yes"),
            ("Modality Worklist (C-FIND)", "SCP", yes(settings.enable_dimse)),
            ("Modality Performed Procedure Step (N-CREATE, N-SET, N-GET)", "SCP", yes(settings.enable_dimse)),
            ("QIDO-RS, WADO-RS, STOW-RS, Capabilities", "origin server", "yes"),
            ("MWL-RS (worklist over HTTP)", "origin server", "yes"),
            ("Unified Procedure Step Push, Pull, Watch, Event, Query", "SCP", yes(settings.enable_dimse)),
            ("Worklist Service (UPS-RS), with events over WebSockets", "origin server", "yes"),
            ("WADO-URI", "origin server", "yes"),
            ("Forwarding by rules (C-STORE, STOW-RS)", "SCU, user agent", yes(settings.rules is not None)),
            ("Change feed: pages, server-sent events, webhooks", "origin server", "yes"),
            ("FHIR R4: Patient, Endpoint, ImagingStudy", "server", "yes"),
            ("FHIR R4: another server kept in step", "client", yes(settings.sync_to_fhir_server)),
            ("Delete (study, series, instance)", "origin server", yes(settings.allow_delete)),
        ),
    )
    yield from _dimse(settings)
    yield from _web(settings)
    yield from storage_sections(settings)
    yield commitment_section(settings)
    yield from query_sections()
    yield from _procedures(settings)
    yield from step_sections(settings)
    yield _security(settings)


def _dimse(settings: Settings) -> Iterator[Section]:
    from pacs.dicom import performed_step
    from pacs.dicom.non_patient import MODELS as NON_PATIENT
    from pacs.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
    from pacs.dimse.availability import NOTIFICATION
    from pacs.dimse.commitment import PUSH_MODEL
    from pacs.dimse.composite import INSTANCE_ROOT_GET, INSTANCE_ROOT_MOVE, WITHOUT_BULK_DATA_GET
    from pacs.dimse.models import MODELS, VERIFICATION
    from pacs.dimse.mpps import RETRIEVE
    from pacs.dimse.negotiation import APPLICATION_CONTEXT, MAX_CONTEXTS, QUERY_SYNTAXES
    from pacs.dimse.ups import UPS_CLASSES
    from pacs.dimse.worklist import MODALITY_WORKLIST

    if not settings.enable_dimse:
        yield Section("DIMSE", 1, ("DIMSE is switched off (ENABLE_DIMSE=false).",))
        return
    called = "only when called by it" if settings.dimse_check_called_ae else "whatever AE title is called"
    callers = "configured calling AE titles only" if settings.dimse_strict else "any calling AE title"
    idle = f"{settings.dimse_idle_timeout_s:g} s" if settings.dimse_idle_timeout_s else "for ever"
    yield Section(
        "DIMSE",
        1,
        (
            f"Associations are accepted {called}, from {callers}. For each configured peer the services that it may"
            " use, the addresses that it may come from and the number of its associations can be limited. Presentation"
            " contexts of services that are not allowed get the result 1 (user-rejection).",
        ),
        (
            ("Property", "Value"),
            ("AE title", settings.dimse_ae_title),
            ("Port without TLS", str(settings.dimse_port or "none")),
            ("Port with TLS", str(settings.dimse_tls_port or "none")),
            ("Application context", APPLICATION_CONTEXT),
            ("Implementation class UID", IMPLEMENTATION_CLASS_UID),
            ("Implementation version name", IMPLEMENTATION_VERSION_NAME),
            ("Associations at once", str(settings.max_associations)),
            ("Presentation contexts an association", str(MAX_CONTEXTS)),
            ("Largest PDU received", f"{settings.dimse_max_pdu} bytes"),
            ("Asynchronous operations", "none: one operation at a time"),
            (
                "Associations to a C-MOVE destination",
                "1, or as configured for the peer; kept open for a while after use",
            ),
            ("Idle associations are kept", idle),
        ),
    )
    yield _negotiation(settings)
    rows = [(_uid_name(VERIFICATION), VERIFICATION, "SCP")]
    services = (MODALITY_WORKLIST, performed_step.SOP_CLASS, RETRIEVE, *UPS_CLASSES)
    rows += [(_uid_name(uid), uid, "SCP") for uid in (*MODELS, *services)]
    rows += [(_uid_name(uid), uid, "SCP") for uid in (INSTANCE_ROOT_MOVE, INSTANCE_ROOT_GET, WITHOUT_BULK_DATA_GET)]
    rows += [(_uid_name(uid), uid, "SCP") for model in NON_PATIENT for uid in (model.find, model.move, model.get)]
    rows.append((_uid_name(PUSH_MODEL), PUSH_MODEL, "SCP, SCU"))
    rows.append((_uid_name(NOTIFICATION), NOTIFICATION, "SCP, SCU" if settings.ian_aes else "SCP"))
    yield Section(
        "SOP classes of services",
        2,
        (f"Transfer syntaxes: {', '.join(map(_syntax_name, QUERY_SYNTAXES))}; the requestor's order decides.",),
        (("SOP class", "UID", "Role"), *rows),
    )


def _negotiation(settings: Settings) -> Section:
    verified = [
        *(["user name", "user name and passcode"] if settings.dimse_users else []),
        *(["JSON Web Token"] if settings.dimse_jwt_key else []),
    ]
    needed = "an association needs one of these" if settings.dimse_user_required else "an association needs none"
    return Section(
        "Extended negotiation",
        2,
        (),
        (
            ("Item", "Answer"),
            (
                "SOP class extended, C-FIND",
                "relational queries, combined date and time, fuzzy matching of person names",
            ),
            ("SOP class extended, C-MOVE and C-GET", "relational retrieval"),
            ("SOP class common extended", "taken notice of: classes of other services than storage are not stored"),
            ("SCP/SCU role selection", "SCP of storage classes granted, for C-GET"),
            ("Asynchronous operations window", "1 invoked, 1 performed"),
            ("User identity", f"{', '.join(verified)}; {needed}" if verified else "not verified, not confirmed"),
        ),
    )


def _web(settings: Settings) -> Iterator[Section]:
    from pacs.web.offered import all_operations

    root = f"/{settings.dicomweb_api}"
    limit = "none" if not settings.stow_max_bytes else f"{int(settings.stow_max_bytes):,} bytes"
    yield Section(
        "DICOMweb",
        1,
        (f"All paths are below {root} unless they are marked; the OpenAPI document is at {root}/openapi.json.",),
        (
            ("Limit", "Value"),
            ("Rows of a search, when no limit is asked", str(settings.qido_default_limit)),
            ("Rows of a search, at most", str(settings.qido_max_limit)),
            ("Body of one STOW-RS request", limit),
            ("Seconds that one picture may take", f"{settings.imaging_timeout_s:g}"),
            ("Pictures in making at once", str(settings.imaging_workers)),
            ("Pictures that may wait", str(settings.imaging_queue)),
        ),
    )
    rows = []
    offered = all_operations(
        with_delete=settings.allow_delete,
        with_administration=settings.is_administered,
        with_oidc=bool(settings.oidc_issuer),
    )
    for operation in offered:
        types = dict.fromkeys(name for status, names in operation.answers.items() if status < 300 for name in names)
        path = f"{operation.path} (server's root)" if operation.is_outside else operation.path or "/"
        rows.append((operation.method, path, operation.group, operation.clause, ", ".join(types) or "no body"))
    yield Section("Resources", 2, (), (("Method", "Path", "Service", "PS3.18", "Answers"), *rows))
    yield Section(
        "FHIR R4",
        2,
        ("Patient, Endpoint and ImagingStudy (4.0.1) are made of the index.",),
        (
            ("Role", "Interactions", "In use"),
            ("server", "read, search-type (GET and POST); nothing is written", "yes"),
            (
                "client",
                "read, search-type, create (If-None-Exist), update and delete (If-Match)",
                yes(settings.sync_to_fhir_server),
            ),
        ),
    )


def _procedures(settings: Settings) -> Iterator[Section]:
    from pacs.dicom.worklist_item import CLOSED, STATES

    if not settings.enable_dimse:
        return
    source = (
        f"orders over HTTP, and files of {settings.worklist_folder}" if settings.worklist_folder else "orders over HTTP"
    )
    yield Section(
        "Modality Worklist",
        1,
        (
            f"Items come from {source}. Every attribute of an item is a return key, and a matching key with all kinds"
            " of matching of PS3.4 C.2.2.2; ranges over Scheduled Procedure Step Start Date and Time are combined. An"
            " item is one Scheduled Procedure Step.",
            f"Scheduled Procedure Step Status is one of {', '.join(STATES)}. Items that are"
            f" {', '.join(sorted(CLOSED))} are returned only to a query that has a key for the status.",
            "Answers are in the character set that the identifier names, or that the item came in, when it is one"
            " without code extensions and has all characters; otherwise in ISO_IR 192.",
        ),
    )
    yield Section(
        "Modality Performed Procedure Step",
        1,
        (
            "Attributes of type 1 are required (PS3.4 Table F.7.2-1), those of type 2 may be missing. Attributes that"
            " no N-SET may change stay as N-CREATE had them, with a warning when an N-SET says otherwise. A"
            " DISCONTINUED step need not have a series.",
            "The worklist item that a step names (Study Instance UID and Scheduled Procedure Step ID, else the"
            " accession number) becomes STARTED, then COMPLETED or DISCONTINUED, in the same transaction.",
        ),
        (
            ("Operation", "Status", "Meaning"),
            ("N-CREATE, N-SET, N-GET", "0000H", "Done."),
            ("N-CREATE", "0111H", "There is a step of this SOP Instance UID already."),
            ("N-CREATE, N-SET", "0120H, 0121H", "A required attribute is missing, or has no value."),
            ("N-CREATE, N-SET", "0106H", "The status is not one that a step can have now; or a UID is none."),
            ("N-SET", "0107H", "Changed, but for the attributes that are named: no N-SET may change these."),
            ("N-SET", "0110H, Error ID A710H", "The step is COMPLETED or DISCONTINUED: no longer updated."),
            ("N-SET, N-GET", "0112H", "There is no such step."),
            ("N-GET", "0001H", "Some of the attributes asked for are not there."),
        ),
    )


def _security(settings: Settings) -> Section:
    from pacs.dimse.tls import CIPHERS

    clients = {
        "required": "have to show a certificate that a configured authority vouches for",
        "optional": "may show a certificate, which a configured authority has to vouch for",
        "none": "are not asked for a certificate",
    }[settings.dimse_tls_clients]
    return Section(
        "Security",
        1,
        (
            "DIMSE by TLS follows the Non-Downgrading BCP 195 TLS Secure Transport Connection Profile (PS3.15 B.10) as"
            f" RFC 9325 narrows it: TLS 1.3, or TLS 1.2 with the suites of OpenSSL's list {CIPHERS}; nothing older,"
            f" no CBC, no renegotiation. On the port with TLS peers {clients}. Renewed certificates hold for new"
            " associations.",
            "The web server takes passwords, API tokens and sessions; roles say what an account may do. Encryption is a"
            " proxy's in front of it.",
        ),
        (
            ("Port", "Address"),
            ("Web", f"{settings.server_host}:{settings.server_port}"),
            ("DIMSE", _address(settings, settings.dimse_port)),
            ("DIMSE with TLS", _address(settings, settings.dimse_tls_port)),
        ),
    )


def _address(settings: Settings, port: int) -> str:
    return f"{settings.dimse_hostname}:{port}" if port and settings.enable_dimse else "off"


def _uid_name(uid: str) -> str:
    from pydicom.uid import UID

    return str(UID(uid).name)


def _syntax_name(uid: str) -> str:
    from pacs.dicom import transfer_syntax

    return transfer_syntax.find(uid).name
