"""Every setting, in one frozen table, and the only place that reads the environment.

Values come from the process environment, then from the file ``.env`` in the project folder, then from the defaults
here. The project folder is PACS_HOME when that is set; else the working directory when it holds an ``.env``; else the
checkout that pacs runs from, if it runs from one; else the working directory. Relative paths start there.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    ByteSize,
    ConfigDict,
    SecretStr,
    ValidationError,
)

from pacs import env_file, qrscp_command
from pacs.access_settings import AccessSettings
from pacs.commitment_settings import CommitmentSettings
from pacs.dimse_settings import DimseSettings
from pacs.errors import Invalid
from pacs.fhir_settings import FhirSettings, check_fhir, endpoint_address
from pacs.follow_settings import FollowSettings
from pacs.keeping_settings import KeepingSettings
from pacs.logs import LogFile
from pacs.mongo_settings import MongoSettings, check_mongo
from pacs.oidc_settings import OidcSettings, check_oidc
from pacs.operation_settings import OperationSettings
from pacs.pixel_settings import PixelSettings
from pacs.procedure_settings import ProcedureSettings
from pacs.setting_kinds import (
    BOOL,
    BYTES,
    BYTES_OR_NONE,
    COUNT,
    HOST,
    PORT,
    SECONDS,
    TEXT,
    Bytes,
    FilePattern,
    Lower,
    Network,
    Origin,
    Port,
    Positive,
    Route,
    Seconds,
    StoreOptions,
    StoreURL,
    Upper,
    listed,
    setting,
    shown,
)
from pacs.viewer_settings import ViewerSettings

# Also read under raccoon's misspelt name.
OTHER_NAMES = {"SYCN_TO_FHIR_SERVER": "SYNC_TO_FHIR_SERVER"}
_MASK = "********"
# Relative ones begin at the project folder.
_PATHS = (
    *("dicom_store_rootpath", "rules", "retention", "worklist_folder", "viewer_folder"),
    *("dimse_ae_config", "dimse_peers", "dimse_users", "dimse_jwt_key"),
    *("dimse_tls_ca", "dimse_tls_certificate", "dimse_tls_key"),
    *("mongodb_tls_ca_file", "mongodb_tls_certificate_key_file", "fhirserver_tls_ca_file", "oidc_tls_ca_file"),
    *("log_file", "audit_file", "audit_syslog_ca", "audit_syslog_certificate", "audit_syslog_key"),
)
_SECTIONS = (
    *("Data", "MongoDB", "Server", "Access", "OpenID Connect", "DICOMweb", "DIMSE", "Worklist", "Imaging"),
    *("Follow-up", "FHIR", "Keeping", "Log", "Audit"),
)


def _usual_workers() -> int:
    """Two where this process may use two processors; with more, it is the index that most writers wait for."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2, usable)


class Settings(
    MongoSettings,
    PixelSettings,
    AccessSettings,
    OidcSettings,
    DimseSettings,
    CommitmentSettings,
    FollowSettings,
    ProcedureSettings,
    FhirSettings,
    KeepingSettings,
    OperationSettings,
    ViewerSettings,
):
    """Typed and checked. A field's name is its environment name in small letters; ``load`` makes one."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # project folder, resolved by load()
    home: Path

    # --- where data lie
    dicom_store_rootpath: Path = setting(
        Path("data"),
        "Data",
        "Folder that holds the archive: files and, without MongoDB, the index.",
        "a path",
        "/dicomFiles",
    )
    dicom_store_filepath: FilePattern = setting(
        "{now,date,yyyy/MM}/{0020000D}/{0020000E}/{00080018}",
        "Data",
        "Where a new file goes in the store. {0020000D} is an attribute's value, {0020000D,hash} its hash, "
        "{now,date,yyyy/MM} the time of arrival. Changing it never moves what is stored.",
        "a relative path with {GGGGEEEE}, {GGGGEEEE,hash} and {now,date,yyyy/MM/dd}",
        "DICOM/{0020000D,hash}/{0020000E,hash}/{00080018,hash}.dcm",
    )
    dicom_store_url: StoreURL = setting(
        "",
        "Data",
        "Object store that the files go to, instead of DICOM_STORE_ROOTPATH; what is being received, and the index "
        "without MongoDB, stay there. Once something is stored, another store is refused.",
        "s3://bucket/prefix, gs://bucket/prefix or az://container/prefix",
        "s3://hospital/archive",
    )
    dicom_store_options: StoreOptions = setting(
        SecretStr(""),
        "Data",
        "How to reach the object store: obstore's options, such as endpoint, region, access_key_id, "
        "secret_access_key and allow_http (for an endpoint without TLS). What is not given comes from the "
        "environment: AWS_*, GOOGLE_*, AZURE_*.",
        "name=value between commas, or a JSON object",
        "endpoint=http://s3:8333,region=us-east-1,allow_http=true",
    )
    dicom_store_timeout_s: Seconds = setting(
        20.0,
        "Data",
        "How long to wait for the object store, repetitions included, before a peer is told to come again later "
        "(A700H, 503). Less than what peers wait for an answer; more on a slow line, where 8 MiB take half of it.",
        SECONDS,
        "60",
    )
    dicom_store_cache_bytes: Bytes = setting(
        ByteSize(4 << 30),
        "Data",
        "How much of DICOM_STORE_ROOTPATH's disk a server may use for copies of what it stored in, or read from, the "
        "object store last. None is added when less than MIN_FREE_BYTES would be left.",
        f"{BYTES}; 0: no copies",
        "100GiB",
    )
    duplicates: Annotated[Literal["reject", "replace"], Lower] = setting(
        "reject",
        "Data",
        "What becomes of an instance already stored with other bytes: reject it, or replace (the old file is kept).",
        "reject or replace",
        "replace",
    )
    min_free_bytes: Bytes = setting(
        ByteSize(256 << 20), "Data", "Take nothing more in when less than this is free on the disk.", BYTES, "10GiB"
    )
    max_instance_bytes: Bytes = setting(
        ByteSize(0), "Data", "Largest instance that is taken in.", BYTES_OR_NONE, "8GiB"
    )
    max_inflated_bytes: Bytes = setting(
        ByteSize(1 << 30),
        "Data",
        "Largest size that a deflated data set may have when it is inflated.",
        BYTES,
        "256MiB",
    )

    # --- HTTP server
    server_host: str = setting("127.0.0.1", "Server", "Address that the web server listens on.", HOST, "0.0.0.0")  # noqa: S104
    server_port: Port = setting(8081, "Server", "Port of the web server.", PORT, "8042")
    cors_allowed_origins: Annotated[tuple[Origin, ...], BeforeValidator(listed)] = setting(
        (),
        "Server",
        "Origins of web viewers that may read this archive from a browser.",
        "origins such as http://localhost:3000, between commas or as a JSON array; * for any",
        "http://localhost:3000",
    )
    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(listed)] = setting(
        (),
        "Server",
        "Reverse proxies whose X-Forwarded-Proto, -Host and -Prefix are believed.",
        "addresses or networks, between commas or as a JSON array",
        "10.0.0.0/8",
    )

    admin_api: Annotated[Literal["loopback", "true", "false"], Lower] = setting(
        "loopback",
        "Server",
        "Whether those who are not logged in may look after the archive (/peers, /jobs, /accounts below DICOMWEB_API), "
        "where ALLOW_ANONYMOUS lets them in. loopback: only on this machine itself. false: nobody may over HTTP, "
        "administrators neither.",
        "loopback, true or false",
        "false",
    )
    server_workers: Positive = setting(
        _usual_workers(),
        "Server",
        "Processes that serve side by side on the same ports, so that all processors are used. IMAGING_WORKERS and "
        "IMAGING_QUEUE are shared out among them; MAX_ASSOCIATIONS holds for each.",
        COUNT,
        "4",
    )

    # --- DICOMweb
    dicomweb_api: Route = setting("dicom-web", "DICOMweb", "Root of the DICOMweb routes and URLs.", "a URL path", "rs")
    dicomweb_host: str = setting(
        "{host}",
        "DICOMweb",
        "Host in Retrieve URLs; {host} is the request's Host header.",
        "a host name or {host}",
        "pacs.example",
    )
    dicomweb_port: Port | None = setting(
        None, "DICOMweb", "Port in Retrieve URLs, when the host carries none.", PORT, "8081"
    )
    dicomweb_ae: str = setting("RACCOON", "DICOMweb", "Accepted for raccoon's files; not used here.", TEXT, "RACCOON")
    allow_delete: bool = setting(
        True,
        "DICOMweb",
        "Whether studies, series and instances may be deleted; files stay until a purge.",
        BOOL,
        "false",
    )
    stow_max_bytes: Bytes = setting(
        ByteSize(16 << 30), "DICOMweb", "Largest body of one STOW-RS request.", BYTES_OR_NONE, "64GiB"
    )
    qido_default_limit: Positive = setting(
        100, "DICOMweb", "Rows of a QIDO-RS answer when the client gives no limit.", COUNT, "50"
    )
    qido_max_limit: Positive = setting(5000, "DICOMweb", "Most rows of a QIDO-RS answer.", COUNT, "1000")

    # --- log
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], Upper] = setting(
        "INFO", "Log", "Least severe lines that are logged, to stderr.", "DEBUG, INFO, WARNING or ERROR", "DEBUG"
    )
    log_format: Annotated[Literal["text", "json"], Lower] = setting(
        "text", "Log", "Lines for people, or JSON objects for machines.", "text or json", "json"
    )
    log_kept_bytes: Bytes = setting(
        ByteSize(16 << 20),
        "Log",
        "How much of the log is also kept in DICOM_STORE_ROOTPATH, folder log, for the web page's view of it.",
        f"{BYTES}; 0: none",
        "64MiB",
    )

    @property
    def viewer_path(self) -> Path:
        """Folder of the full viewer, whether it is installed or not."""
        return self.viewer_folder or self.dicom_store_rootpath / "viewer"

    @property
    def is_admin_api(self) -> bool:
        """Whether ADMIN_API, or the address, allows administration over HTTP to those who are not logged in."""
        return self.admin_api == "true" or (self.admin_api == "loopback" and self.is_local)

    @property
    def is_administered(self) -> bool:
        """Whether there is administration over HTTP at all."""
        return self.admin_api != "false"

    @property
    def is_local(self) -> bool:
        """Whether the web server listens on this machine alone."""
        return is_loopback(self.server_host)

    @property
    def is_dimse_local(self) -> bool:
        """Whether DIMSE does."""
        return is_loopback(self.dimse_hostname)

    @property
    def logs_to(self) -> LogFile | None:
        if self.log_file is None:
            return None
        return LogFile(self.log_file, self.log_file_max_bytes, self.log_file_keep)


def is_loopback(host: str) -> bool:
    """Whether an address that a server listens on is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Loaded:
    """warnings: sentences for whoever starts the server."""

    settings: Settings
    warnings: tuple[str, ...]


def load(
    overrides: Mapping[str, str] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    working_directory: Path | None = None,
) -> Loaded:
    """Read all settings. overrides: by environment name, from the command line; they win.

    environment and working_directory stand in for the process's own. Raises Invalid for all wrong values together.
    """
    environment = os.environ if environment is None else environment
    home = _home(environment, working_directory or Path.cwd())
    from_file, warnings = _read_env_file(home / ".env")
    given = {**_known(from_file), **_known(environment), **(overrides or {})}
    command = _qrscp(given)
    values = {**command.settings, **given}
    values = {name: value.replace("{project}", str(home)) for name, value in values.items()}
    settings = _validated(home, values)
    check_mongo(settings)
    check_fhir(settings)
    check_oidc(settings)
    address, is_reachable = fhir_endpoint(settings)
    if settings.sync_to_fhir_server and not is_reachable:
        warnings.append(f"FHIR_DICOMWEB_URL is not set: readers of the FHIR server are sent to {address}")
    default_limit, max_limit = settings.qido_default_limit, settings.qido_max_limit
    if default_limit > max_limit:
        raise Invalid(
            f"QIDO_DEFAULT_LIMIT={default_limit}: expected at most QIDO_MAX_LIMIT, which is {max_limit}",
            "QIDO_DEFAULT_LIMIT",
        )
    if settings.frames_htj2k == "ahead" and not settings.frames_cache_bytes:
        raise Invalid("FRAMES_HTJ2K=ahead: expected FRAMES_CACHE_BYTES above 0, to keep what is made", "FRAMES_HTJ2K")
    return Loaded(settings, (*warnings, *command.warnings))


def fhir_endpoint(settings: Settings) -> tuple[str, bool]:
    """As ``fhir_settings.endpoint_address``."""
    return endpoint_address(
        settings,
        settings.dicomweb_host or "{host}",
        settings.dicomweb_port,
        (settings.server_host, settings.server_port),
        settings.dicomweb_api,
    )


def names() -> list[str]:
    """Environment names of all settings, section by section."""
    fields = [field.upper() for field in Settings.model_fields if field != "home"]
    return sorted(fields, key=lambda name: _SECTIONS.index(describe(name)[0]))


def effective(settings: Settings) -> dict[str, str]:
    """Environment names to values, as text that ``load`` reads back; secrets masked."""
    return {name: shown(getattr(settings, name.lower())) for name in names()}


def describe(name: str) -> tuple[str, str, str, str, str]:
    """Section, description, what is expected, an example and the default of one setting, as text."""
    field = Settings.model_fields[name.lower()]
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    section, expected, example = (str(extra[key]) for key in ("section", "expected", "example"))
    return section, field.description or "", expected, example, shown(field.default)


def _home(environment: Mapping[str, str], working_directory: Path) -> Path:
    if environment.get("PACS_HOME"):
        return Path(environment["PACS_HOME"]).expanduser().resolve()
    checkout = Path(__file__).resolve().parent.parent
    if not (working_directory / ".env").exists() and (checkout / "setup.cfg").exists():
        return checkout
    return working_directory.resolve()


def _read_env_file(path: Path) -> tuple[dict[str, str], list[str]]:
    try:
        values = env_file.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Invalid(f"{path}: {reason}", ".env") from None
    known = {*names(), *OTHER_NAMES, "PACS_HOME"}
    warnings = []
    for name in values:
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
        if name not in known and near:
            warnings.append(f".env: {name} is not a setting and is ignored; did you mean {near[0]}?")
    return values, warnings


def _known(values: Mapping[str, str]) -> dict[str, str]:
    """Those that are settings. An empty value counts as not set, as compose files and shells pass them on."""
    known = set(names())
    renamed = {OTHER_NAMES[name]: value for name, value in values.items() if name in OTHER_NAMES}
    return {name: value for name, value in {**renamed, **values}.items() if name in known and value != ""}


def _qrscp(given: Mapping[str, str]) -> qrscp_command.QrscpCommand:
    command = given.get("DCM4CHE_QRSCP_COMMAND")
    if not command:
        return qrscp_command.QrscpCommand()
    try:
        return qrscp_command.parse(command)
    except ValueError as error:
        raise Invalid(f"DCM4CHE_QRSCP_COMMAND: {error}", "DCM4CHE_QRSCP_COMMAND") from None


def _validated(home: Path, values: Mapping[str, str]) -> Settings:
    try:
        settings = Settings(home=home, **{name.lower(): value for name, value in values.items()})  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = list(dict.fromkeys(str(detail["loc"][0]).upper() for detail in error.errors()))
        lines = [_complaint(name, values.get(name, "")) for name in wrong]
        head = "a setting is wrong" if len(lines) == 1 else f"{len(lines)} settings are wrong"
        raise Invalid("\n  ".join([f"{head}:", *lines]), wrong[0]) from None
    paths = {name: getattr(settings, name) for name in _PATHS}
    return settings.model_copy(update={name: home / path.expanduser() for name, path in paths.items() if path})


def _complaint(name: str, value: str) -> str:
    _, _, expected, _, default = describe(name)
    shown = _MASK if isinstance(Settings.model_fields[name.lower()].default, SecretStr) else value
    return f"{name}={shown}: expected {expected} (default: {default or 'none'})"
