"""The settings of the MongoDB index, named as raccoon-dicom names them, and the URL that they make."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, quote_plus

from pydantic import AfterValidator, BaseModel, BeforeValidator, SecretStr

from pacs.errors import Invalid
from pacs.setting_kinds import BOOL, SECONDS, TEXT, Port, Seconds, listed, setting

_DEFAULT_PORT = 27017


def _host(value: str) -> str:
    value = value.strip()
    if value.startswith("[") and value.endswith("]"):
        value = value[1:-1]
    if not re.fullmatch(r"[\w.:%-]+", value, re.ASCII) or re.fullmatch(r"[^:]+:\d+", value):
        raise ValueError
    return value


def _database(value: str) -> str:
    # What MongoDB itself refuses in the name of a database.
    if not 0 < len(value.encode()) < 64 or re.search(r'[/\\. "$*<>:|?\0]', value):
        raise ValueError
    return value


def _options(value: str) -> str:
    value = value.lstrip("?&")
    # Shown by `pacs config`.
    is_secret = re.search(r"password[^=&]*=|SESSION_TOKEN", value, re.IGNORECASE)
    if is_secret or (value and not re.fullmatch(r"[^=&\s]+=[^=&\s]*(&[^=&\s]+=[^=&\s]*)*", value)):
        raise ValueError
    return value


class MongoSettings(BaseModel):
    """MONGODB_*; ``hosts`` empty means the embedded index."""

    mongodb_hosts: Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], BeforeValidator(listed)] = setting(
        (),
        "MongoDB",
        "Members of the replica set that holds the index, or routers (mongos) of a sharded cluster. Not set: the index "
        "is a file in the data folder, which one machine uses.",
        "host names or addresses, without ports, as a JSON array or between commas",
        '["mongo1", "mongo2", "mongo3"]',
    )
    mongodb_ports: Annotated[tuple[Port, ...], BeforeValidator(listed)] = setting(
        (),
        "MongoDB",
        "Their ports, in the same order. One port alone holds for all of them; none: 27017.",
        "port numbers, as a JSON array or between commas",
        "[27017, 27017, 27017]",
    )
    mongodb_name: Annotated[str, AfterValidator(_database)] = setting(
        "raccoon-dicom", "MongoDB", "Database.", 'a name without /\\. "$*<>:|?', "raccoon-dicom"
    )
    mongodb_user: str = setting("", "MongoDB", "User; used when there is a password too.", TEXT, "root")
    mongodb_password: SecretStr = setting(SecretStr(""), "MongoDB", "Password.", TEXT, "root")
    mongodb_auth_source: str = setting("admin", "MongoDB", "Database that knows the user.", TEXT, "admin")
    mongodb_is_sharding_mode: bool = setting(
        False, "MongoDB", "Spread the big collections over the shards of a cluster, by study.", BOOL, "true"
    )
    mongodb_options: Annotated[str, AfterValidator(_options)] = setting(
        "",
        "MongoDB",
        "Further options of MongoDB's connection string.",
        "name=value pairs with & between them, without passwords, which have settings of their own",
        "replicaSet=rs0",
    )
    mongodb_timeout_s: Seconds = setting(
        10.0,
        "MongoDB",
        "How long to look for a primary before a peer is told to come again later (A700H, 503). An election takes "
        "about as long.",
        SECONDS,
        "20",
    )
    mongodb_tls: bool = setting(False, "MongoDB", "Connect by TLS.", BOOL, "true")
    mongodb_tls_ca_file: Path | None = setting(
        None, "MongoDB", "Certificates that are trusted, PEM; not set: the system's.", "a path", "/etc/pacs/mongo.pem"
    )
    mongodb_tls_certificate_key_file: Path | None = setting(
        None, "MongoDB", "Certificate and key to show to the server, PEM.", "a path", "/etc/pacs/mongo-client.pem"
    )
    mongodb_tls_certificate_key_file_password: SecretStr = setting(
        SecretStr(""), "MongoDB", "Password of that key.", TEXT, "secret"
    )


def check_mongo(settings: MongoSettings) -> None:
    """Raises Invalid for settings that contradict each other."""
    hosts, ports = settings.mongodb_hosts, settings.mongodb_ports
    if hosts and len(ports) not in (0, 1, len(hosts)):
        raise Invalid(
            f"MONGODB_PORTS={list(ports)}: expected one port, or as many as MONGODB_HOSTS has, which is {len(hosts)}",
            "MONGODB_PORTS",
        )
    if not settings.mongodb_tls:
        for name in ("ca_file", "certificate_key_file"):
            if getattr(settings, f"mongodb_tls_{name}") is not None:
                wrong = f"MONGODB_TLS_{name.upper()}"
                raise Invalid(f"{wrong} is set, and MONGODB_TLS is not true", wrong)


def mongo_uri(settings: MongoSettings) -> str:
    """MongoDB's connection string, with the password in it: for the driver, never for a log.

    MONGODB_OPTIONS wins over what other settings say. Raises Invalid as ``check_mongo`` does, or without hosts.
    """
    check_mongo(settings)
    if not settings.mongodb_hosts:
        raise Invalid("MONGODB_HOSTS is not set", "MONGODB_HOSTS")
    ports = settings.mongodb_ports or (_DEFAULT_PORT,)
    if len(ports) == 1:
        ports *= len(settings.mongodb_hosts)
    members = ",".join(
        # The zone of a link-local address is escaped as all that is special.
        f"[{quote(host, safe=':')}]:{port}" if ":" in host else f"{host}:{port}"
        for host, port in zip(settings.mongodb_hosts, ports, strict=True)
    )
    options: dict[str, str] = {}
    login = ""
    password = settings.mongodb_password.get_secret_value()
    # As raccoon: one of them alone means no login.
    if settings.mongodb_user and password:
        login = f"{quote_plus(settings.mongodb_user)}:{quote_plus(password)}@"
        options["authSource"] = settings.mongodb_auth_source
    if settings.mongodb_tls:
        options["tls"] = "true"
        key_password = settings.mongodb_tls_certificate_key_file_password.get_secret_value()
        files = {
            "tlsCAFile": settings.mongodb_tls_ca_file,
            "tlsCertificateKeyFile": settings.mongodb_tls_certificate_key_file,
            "tlsCertificateKeyFilePassword": key_password,
        }
        options |= {name: str(value) for name, value in files.items() if value}
    given = settings.mongodb_options
    # The names of options have no case.
    named = {pair.partition("=")[0].lower() for pair in given.split("&")}
    ours = [f"{name}={quote(value, safe='')}" for name, value in options.items() if name.lower() not in named]
    query = "&".join([*ours, given] if given else ours)
    return f"mongodb://{login}{members}/{f'?{query}' if query else ''}"
