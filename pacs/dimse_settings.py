"""The settings of the DIMSE server, and of what is asked of peers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from pacs.setting_kinds import (
    BOOL,
    COUNT,
    HOST,
    PORT,
    SECONDS,
    TEXT,
    AETitle,
    Lower,
    Positive,
    Seconds,
    SecondsOrNever,
    setting,
)

PortOrNone = Annotated[int, Field(ge=0, le=65535)]


class DimseSettings(BaseModel):
    enable_dimse: bool = setting(True, "DIMSE", "Whether to serve DIMSE.", BOOL, "false")
    dimse_ae_title: AETitle = setting(
        "DCMQRSCP", "DIMSE", "AE title of this archive.", "1 to 16 printable ASCII characters without \\", "ARCHIVE"
    )
    dimse_check_called_ae: bool = setting(
        False, "DIMSE", "Refuse associations that call another AE title than this archive's.", BOOL, "true"
    )
    dimse_hostname: str = setting("127.0.0.1", "DIMSE", "Address that DIMSE listens on.", HOST, "0.0.0.0")  # noqa: S104
    dimse_port: PortOrNone = setting(11112, "DIMSE", "Port of DIMSE without TLS.", f"{PORT}; 0: TLS only", "104")
    dimse_tls_port: PortOrNone = setting(
        0, "DIMSE", "Port of DIMSE with TLS (1.2 or newer, PS3.15 B.10).", f"{PORT}; 0: none", "2762"
    )
    dimse_tls_certificate: Path | None = setting(
        None,
        "DIMSE",
        "Certificate that this archive shows to its peers, with its chain, PEM. A new file is used for new "
        "associations, without a restart.",
        "a path",
        "/etc/pacs/dimse.pem",
    )
    dimse_tls_key: Path | None = setting(
        None, "DIMSE", "Key of that certificate, PEM; not set: it is in the same file.", "a path", "/etc/pacs/dimse.key"
    )
    dimse_tls_ca: Path | None = setting(
        None,
        "DIMSE",
        "Certificates of those who vouch for peers, PEM; not set: as a client, those that this machine trusts.",
        "a path",
        "/etc/pacs/hospital-ca.pem",
    )
    dimse_tls_clients: Annotated[Literal["required", "optional", "none"], Lower] = setting(
        "required",
        "DIMSE",
        "Whether peers that connect by TLS have to show a certificate that DIMSE_TLS_CA vouches for. optional: one "
        "that is shown has to be good.",
        "required, optional or none",
        "none",
    )
    dimse_ae_config: Path = setting(
        Path("config/ae.properties"),
        "DIMSE",
        "Peers that C-MOVE may send to, one AET=host:port a line; read again when it changes.",
        "a path",
        "/etc/pacs/ae.properties",
    )
    dimse_peers: Path = setting(
        Path("config/peers.toml"),
        "DIMSE",
        "Peers with what they may do here and how they are sent to (docs/dimse.md); read again when it changes. An AE "
        "title that is in both files is what this one says.",
        "a path",
        "/etc/pacs/peers.toml",
    )
    dimse_strict: bool = setting(
        False,
        "DIMSE",
        "Refuse associations of calling AE titles that are in neither file, or that come from another address.",
        BOOL,
        "true",
    )
    dimse_allow_anonymous: bool = setting(
        False,
        "DIMSE",
        "Start although DIMSE_HOSTNAME is reached from other machines and nothing says which of them may associate: "
        "neither DIMSE_STRICT nor DIMSE_USER_REQUIRED, nor TLS with required certificates alone.",
        BOOL,
        "true",
    )
    dimse_users: Path | None = setting(
        None,
        "DIMSE",
        "Users that peers may say they are when they associate, one name:hash a line as `pacs user NAME` writes them; "
        "read again when it changes. The accounts of the archive are taken too. Not set: what peers say of users is "
        "not verified, unless DIMSE_USER_REQUIRED.",
        "a path",
        "/etc/pacs/users",
    )
    dimse_jwt_key: Path | None = setting(
        None,
        "DIMSE",
        "Public key, PEM, of whoever signs the JSON Web Tokens that peers may show instead.",
        "a path",
        "/etc/pacs/jwt.pem",
    )
    dimse_jwt_audience: str = setting(
        "", "DIMSE", "For whom such a token has to be (aud); not set: that does not matter.", TEXT, "pacs"
    )
    dimse_user_required: bool = setting(
        False, "DIMSE", "Refuse associations without a user that was verified.", BOOL, "true"
    )
    dcm4che_qrscp_command: str = setting(
        "",
        "DIMSE",
        "raccoon's way to say AE title, port, peers and file pattern. The settings above win over it.",
        'a JSON array of strings, such as ["-b", "DCMQRSCP:11112"]',
        '`["-b", "DCMQRSCP:11112", "--ae-config", "{project}/config/ae.properties"]`',
    )
    max_associations: Positive = setting(
        100, "DIMSE", "Associations at once, of each worker; further ones are rejected as a local limit.", COUNT, "20"
    )
    dimse_max_pdu: Annotated[int, Field(ge=4096, le=1 << 24)] = setting(
        131072, "DIMSE", "Largest PDU that peers may send, in bytes.", "bytes, 4096 to 16777216", "16384"
    )
    dimse_acse_timeout_s: Seconds = setting(
        30.0, "DIMSE", "How long to wait for a peer's answer when associating or releasing.", SECONDS, "10"
    )
    dimse_message_timeout_s: Seconds = setting(
        60.0, "DIMSE", "How long to wait for a peer's answer to a message.", SECONDS, "120"
    )
    dimse_idle_timeout_s: SecondsOrNever = setting(
        0.0, "DIMSE", "How long an association may do nothing before it is aborted.", "seconds; 0: for ever", "3600"
    )
