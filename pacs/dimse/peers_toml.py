"""``peers.toml``: peers with what they may do here, and how they are sent to. docs/dimse.md describes every key."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, TypeAdapter, ValidationError

from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.model import Role, Scope
from pacs.dimse.pace import Pace
from pacs.dimse.peer import KEPT_S, STORED, Peer, Rules, Sending, checked_ae_title
from pacs.dimse.tls import ClientTls, Files
from pacs.dimse.user import Identity, IdentityType

log = logging.getLogger(__name__)


def read_toml(text: str, path: Path, tls: Files) -> dict[str, Peer]:
    """Peers by AE title. Relative paths in the file begin at its folder. tls: the files where a peer names none.

    An entry that cannot be understood is told in the log; a peer stays of it to which nothing is allowed, since what it
    may do is not known. Raises ValueError when the file as a whole cannot be understood.
    """
    whole = tomllib.loads(text)
    entries = whole.pop("peers", {})
    if whole or not isinstance(entries, dict):
        raise ValueError(f"expected tables [peers.AETITLE], found {', '.join(whole) or 'peers'}")
    peers: dict[str, Peer] = {}
    for name, entry in entries.items():
        try:
            peer = _peer(checked_ae_title(name), entry, path.parent, tls)
        except ValueError as error:
            log.error("peer refused file=%s peer=%s reason=%s", path.name, name, _reason(error))
            peer = Peer(name.strip(), "", 0, is_broken=True)
        peers[peer.ae_title] = peer
    return peers


def _peer(ae_title: str, entry: object, folder: Path, tls: Files) -> Peer:
    found = _Entry.model_validate(entry)
    if bool(found.host) != bool(found.port):
        raise ValueError("host and port belong together")
    limit = found.max_associations
    return Peer(
        ae_title,
        found.host,
        found.port,
        _client_tls(found.tls, folder, tls),
        Rules(
            None if found.services is None else frozenset(found.services),
            found.addresses,
            limit,
            Role[found.role.upper()],
            Scope(_words(found.modalities), _words(found.labels)),
        ),
        Sending(
            found.transfer_syntaxes,
            found.connections,
            limit,
            found.keep_s,
            Pace(found.bytes_per_s) if found.bytes_per_s else None,
        ),
        _identity(found.user, folder),
        found.association_timeout_s,
        found.message_timeout_s,
    )


def _words(values: list[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


def _client_tls(asked: bool | _Tls, folder: Path, usual: Files) -> ClientTls | None:
    if asked is False:
        return None
    if asked is True:
        return ClientTls(usual)
    own = Files(*(folder / path if path else None for path in (asked.ca, asked.certificate, asked.key)))
    # Certificate and key are a pair.
    shown = own if own.certificate else usual
    return ClientTls(Files(own.ca or usual.ca, shown.certificate, shown.key), asked.verify_host)


def _identity(user: _User | None, folder: Path) -> Identity | None:
    if user is None:
        return None
    passcode = user.passcode
    if user.passcode_file:
        try:
            passcode = (folder / user.passcode_file).read_text("utf-8").strip("\r\n")
        except OSError as error:
            raise ValueError(f"{user.passcode_file}: {error.strerror}") from error
    kind = IdentityType.USERNAME_PASSCODE if passcode else IdentityType.USERNAME
    return Identity(kind, user.name.encode(), passcode.encode())


def _reason(error: ValueError) -> str:
    """Without values: they may be secrets."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, detail['loc'])) or 'entry'}: {detail['msg']}"
        for detail in error.errors(include_input=False)
    )


def _networks(values: object) -> object:
    if not isinstance(values, list):
        raise ValueError("expected a list of addresses or networks")
    return tuple(ip_network(value, strict=False) for value in values)


def _bytes_per_s(value: object) -> object:
    found = int(_SIZES.validate_python(value))
    if found < _LEAST_BYTES_PER_S:
        raise ValueError(f"expected at least {_LEAST_BYTES_PER_S} bytes")
    return found


def _transfer_syntaxes(values: object) -> object:
    if not isinstance(values, list):
        raise ValueError("expected a list of transfer syntaxes")
    return tuple(map(_transfer_syntax, values))


def _transfer_syntax(value: object) -> str:
    name = str(value).strip()
    if name.lower() == STORED:
        return STORED
    found = syntaxes.BY_UID.get(name) or _BY_NAME.get(name.lower())
    if found is None:
        raise ValueError(f"unknown transfer syntax {name}: expected a UID, its name, or {STORED}")
    if found.lossy:
        raise ValueError(f"{found.name} would lose something")
    return found.uid


_BY_NAME: Mapping[str, syntaxes.TransferSyntax] = {syntax.name.lower(): syntax for syntax in syntaxes.ALL}
_SIZES = TypeAdapter(ByteSize)
_LEAST_BYTES_PER_S = 1024
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_MOST_WORDS = 200
_Modality = Annotated[str, Field(pattern=r"^[A-Z0-9_ ]{1,16}$")]
_Label = Annotated[str, Field(pattern=r"^[\w.:-]{1,64}$")]
_Service = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class _Tls(_Strict):
    ca: str = ""
    certificate: str = ""
    key: str = ""
    verify_host: bool = True


class _User(_Strict):
    name: str = Field(min_length=1)
    passcode: str = ""
    passcode_file: str = ""


class _Entry(_Strict):
    host: str = ""
    port: int = Field(0, ge=0, le=65535)
    tls: bool | _Tls = False
    services: list[_Service] | None = None
    role: Literal["reader", "writer", "admin"] = "admin"
    modalities: list[_Modality] | None = Field(None, max_length=_MOST_WORDS)
    labels: list[_Label] | None = Field(None, max_length=_MOST_WORDS)
    addresses: Annotated[Any, BeforeValidator(_networks)] = ()
    max_associations: int | None = Field(None, ge=1)
    connections: int = Field(1, ge=1, le=16)
    bytes_per_s: Annotated[Any, BeforeValidator(_bytes_per_s)] = None
    transfer_syntaxes: Annotated[Any, BeforeValidator(_transfer_syntaxes)] = ()
    keep_s: float = Field(KEPT_S, ge=0, le=600)
    association_timeout_s: _Seconds | None = None
    message_timeout_s: _Seconds | None = None
    user: _User | None = None
