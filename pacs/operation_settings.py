"""The settings of what tells operators what the archive does: log file, metrics, audit trail."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ByteSize

from pacs.setting_kinds import BOOL, BYTES, COUNT, SECONDS, TEXT, Bytes, Lower, Positive, Seconds, setting
from pacs.syslog_address import parse


def _syslog(value: str) -> str:
    if value:
        parse(value)
    return value


def _collector(value: str) -> str:
    if value and not value.startswith(("http://", "https://")):
        raise ValueError("expected an http or https address")
    return value


Syslog = Annotated[str, AfterValidator(_syslog)]


class OperationSettings(BaseModel):
    log_file: Path | None = setting(
        None, "Log", "File that log lines are appended to as well; `pacs log` shows it.", "a path", "/var/log/pacs.log"
    )
    log_file_max_bytes: Bytes = setting(
        ByteSize(64 << 20),
        "Log",
        "Size at which the log file is renamed to LOG_FILE.1, the one before it to LOG_FILE.2, and so on. 0: never, "
        "where logrotate does it.",
        BYTES,
        "1GiB",
    )
    log_file_keep: Positive = setting(5, "Log", "How many renamed log files are kept.", COUNT, "20")
    health_peers: bool = setting(
        False,
        "Log",
        "Whether GET /health/ready tells which peers do not answer a C-ECHO, once a minute. The archive is ready all "
        "the same.",
        BOOL,
        "true",
    )
    metrics_public: bool = setting(
        False,
        "Log",
        "Whether GET /metrics is answered to anybody. Otherwise to administrators, and to all while the web server "
        "listens on this machine alone.",
        BOOL,
        "true",
    )
    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(_collector)] = setting(
        "",
        "Log",
        "OpenTelemetry collector that spans of associations, messages and requests are sent to (OTLP over HTTP). Needs "
        "the extra `otel`; the other OTEL_* variables of its SDK hold as well, from the environment.",
        "an http or https address",
        "http://localhost:4318",
    )
    audit_file: Path | None = setting(
        None,
        "Audit",
        "File that audit messages (PS3.15 A.5) are appended to, one XML document a line.",
        "a path",
        "/var/log/pacs-audit.log",
    )
    audit_file_max_bytes: Bytes = setting(
        ByteSize(256 << 20), "Audit", "Size at which the audit file is renamed, as LOG_FILE_MAX_BYTES.", BYTES, "1GiB"
    )
    audit_file_keep: Positive = setting(20, "Audit", "How many renamed audit files are kept.", COUNT, "100")
    audit_file_sync: Annotated[Literal["always", "never"], Lower] = setting(
        "always",
        "Audit",
        "Whether audit messages are forced to the disk as they are written, once for all of an AUDIT_WINDOW_S.",
        "always or never",
        "never",
    )
    audit_syslog: Syslog = setting(
        "",
        "Audit",
        "Audit record repository that messages are sent to (RFC 5424; over TLS RFC 5425). While it is away they wait "
        "as jobs; over UDP nobody knows whether they arrived.",
        "udp://host:port, tcp://host:port or tls://host:port",
        "tls://audit.example:6514",
    )
    audit_syslog_ca: Path | None = setting(
        None,
        "Audit",
        "Certificates that the repository's is checked with, PEM; the system's by default.",
        "a path",
        "/etc/pacs/ca.pem",
    )
    audit_syslog_certificate: Path | None = setting(
        None,
        "Audit",
        "Our certificate for the repository, PEM, with the key in it or in AUDIT_SYSLOG_KEY.",
        "a path",
        "/etc/pacs/audit.pem",
    )
    audit_syslog_key: Path | None = setting(
        None, "Audit", "Key of AUDIT_SYSLOG_CERTIFICATE, PEM.", "a path", "/etc/pacs/audit.key"
    )
    audit_source: str = setting(
        "", "Audit", "Audit Source ID in every message; the host's name by default.", TEXT, "PACS-EAST"
    )
    audit_window_s: Seconds = setting(
        2.0, "Audit", "How long what one caller does with one study is gathered into one message.", SECONDS, "10"
    )

    @property
    def is_audited(self) -> bool:
        return self.audit_file is not None or bool(self.audit_syslog)
