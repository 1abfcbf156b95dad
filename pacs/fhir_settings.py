"""The settings of FHIR, the first two named as raccoon-dicom names them, and what is made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import tzinfo
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, SecretStr

from pacs.errors import Invalid
from pacs.setting_kinds import BOOL, COUNT, SECONDS, TEXT, Lower, Positive, Seconds, listed, setting

_LOCAL = frozenset({"0.0.0.0", "::", "127.0.0.1", "::1", "localhost", ""})  # noqa: S104


def _url(value: str) -> str:
    value = value.strip().rstrip("/")
    if value and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValueError
    return value


def _zone(value: str) -> str:
    if value:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, LookupError) as error:
            raise ValueError from error
    return value


def _systems(value: tuple[str, ...]) -> tuple[str, ...]:
    for item in value:
        if not re.fullmatch(r"(?:urn|https?):\S+", _issuer_and_system(item)[1]):
            raise ValueError
    return value


URL = Annotated[str, AfterValidator(_url)]
Systems = Annotated[tuple[str, ...], BeforeValidator(listed), AfterValidator(_systems)]
_SYSTEMS = "URIs, or ISSUER=URI, between commas or as a JSON array"


class FhirSettings(BaseModel):
    """FHIRSERVER_*: the server that is kept in step; FHIR_*: what is in the resources."""

    sync_to_fhir_server: bool = setting(
        False,
        "FHIR",
        "Whether to keep a FHIR R4 server in step: Patient, Endpoint and ImagingStudy of each study. raccoon's "
        "spelling SYCN_TO_FHIR_SERVER is read too.",
        BOOL,
        "true",
    )
    fhirserver_base_url: URL = setting("", "FHIR", "That server.", "a URL", "http://localhost:8088/fhir")
    fhirserver_user: str = setting("", "FHIR", "Name to log in there with, by Basic authentication.", TEXT, "pacs")
    fhirserver_password: SecretStr = setting(SecretStr(""), "FHIR", "Its password.", TEXT, "secret")
    fhirserver_token: SecretStr = setting(
        SecretStr(""), "FHIR", "Bearer token to show instead of name and password.", TEXT, "secret"
    )
    fhirserver_token_url: URL = setting(
        "",
        "FHIR",
        "Where OAuth2 access tokens are had for client id and secret (client credentials).",
        "a URL",
        "https://login.example/oauth2/token",
    )
    fhirserver_client_id: str = setting("", "FHIR", "OAuth2 client id.", TEXT, "pacs")
    fhirserver_client_secret: SecretStr = setting(SecretStr(""), "FHIR", "OAuth2 client secret.", TEXT, "secret")
    fhirserver_client_auth: Annotated[Literal["basic", "post"], Lower] = setting(
        "basic", "FHIR", "How the client secret is sent: in a Basic header, or in the body.", "basic or post", "post"
    )
    fhirserver_scope: str = setting("", "FHIR", "OAuth2 scopes to ask for.", "scopes, between blanks", "system/*.*")
    fhirserver_timeout_s: Seconds = setting(
        30.0, "FHIR", "How long to wait for an answer before it is tried again later.", SECONDS, "60"
    )
    fhirserver_tls_ca_file: Path | None = setting(
        None, "FHIR", "Certificates that are trusted, PEM; not set: the system's.", "a path", "/etc/pacs/fhir.pem"
    )
    fhir_dicomweb_url: URL = setting(
        "",
        "FHIR",
        "Root of the DICOMweb URLs as the readers of the FHIR server reach it: the address of the Endpoint. Not set: "
        "made of DICOMWEB_HOST, DICOMWEB_PORT and DICOMWEB_API.",
        "a URL",
        "https://pacs.example/dicom-web",
    )
    fhir_patient_systems: Systems = setting(
        (),
        "FHIR",
        "Namespaces of patient IDs: a URI for IDs without an issuer, ISSUER=URI for those with that Issuer of Patient "
        "ID. Patients that the server knows under the same are referred to. Where none is given, one is made that is "
        "this archive's alone.",
        _SYSTEMS,
        "http://hospital.example/mrn,NORTH=http://north.example/mrn",
    )
    fhir_accession_systems: Systems = setting(
        (),
        "FHIR",
        "Namespaces of accession numbers, likewise; where none is given, there is none.",
        _SYSTEMS,
        "http://hospital.example/accession",
    )
    fhir_timezone: Annotated[str, AfterValidator(_zone)] = setting(
        "",
        "FHIR",
        "Time zone of times whose study does not say theirs. Not set: the machine's.",
        "a name of the IANA database",
        "Europe/Vienna",
    )
    fhir_max_instances: Positive = setting(
        2000, "FHIR", "Instances of a study that an ImagingStudy lists; all are counted.", COUNT, "500"
    )
    fhir_when_deleted: Annotated[Literal["remove", "cancelled", "entered-in-error"], Lower] = setting(
        "remove",
        "FHIR",
        "What becomes of the ImagingStudy of a deleted study: it is removed, or gets this status.",
        "remove, cancelled or entered-in-error",
        "entered-in-error",
    )
    fhir_remove_patients: bool = setting(
        False,
        "FHIR",
        "Whether a Patient that this archive made is removed with the last study that refers to it.",
        BOOL,
        "true",
    )


def check_fhir(settings: FhirSettings) -> None:
    """Raises Invalid for settings that contradict each other."""
    if settings.sync_to_fhir_server and not settings.fhirserver_base_url:
        raise Invalid("SYNC_TO_FHIR_SERVER is true, and FHIRSERVER_BASE_URL is not set", "FHIRSERVER_BASE_URL")
    is_oauth = (settings.fhirserver_token_url, settings.fhirserver_client_id)
    if any(is_oauth) and not all((*is_oauth, settings.fhirserver_client_secret.get_secret_value())):
        raise Invalid(
            "FHIRSERVER_TOKEN_URL, FHIRSERVER_CLIENT_ID and FHIRSERVER_CLIENT_SECRET belong together: one is missing",
            "FHIRSERVER_TOKEN_URL",
        )


def systems(items: tuple[str, ...]) -> Mapping[str, str]:
    """URIs by issuer, "" for identifiers without one."""
    return dict(map(_issuer_and_system, items))


def zone_of(settings: FhirSettings) -> tzinfo | None:
    """None: the machine's."""
    return ZoneInfo(settings.fhir_timezone) if settings.fhir_timezone else None


def endpoint_address(
    settings: FhirSettings, host: str, port: int | None, listener: tuple[str, int], api_root: str
) -> tuple[str, bool]:
    """(URL of the DICOMweb root for readers of the FHIR server, whether it can be reached from other machines).

    host, port: DICOMWEB_HOST, which may have a scheme, and DICOMWEB_PORT. listener: SERVER_HOST and SERVER_PORT, for
    when the former leaves it to each request.
    """
    if settings.fhir_dicomweb_url:
        return settings.fhir_dicomweb_url, True
    scheme, _, name = host.rpartition("://")
    is_known = "{host}" not in name
    name = name.rstrip("/") if is_known else listener[0]
    port = port if is_known else port or listener[1]
    if port is not None and not (is_known and re.search(r":\d+$", name)):
        name = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    return f"{scheme or 'http'}://{name}/{api_root}", is_known or listener[0] not in _LOCAL


def _issuer_and_system(item: str) -> tuple[str, str]:
    issuer, equals, system = item.partition("=")
    # A URI may have an equals sign too.
    return (issuer.strip(), system.strip()) if equals and ":" not in issuer else ("", item.strip())
