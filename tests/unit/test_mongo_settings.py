"""MONGODB_* and the connection string that they make, read back by the driver itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pymongo.uri_parser import parse_uri

from pacs import settings
from pacs.errors import Invalid
from pacs.mongo_settings import mongo_uri
from pacs.settings import Settings

LOGIN = {"user": "u", "password": "hunter2"}


def load(home: Path, **values: str) -> Settings:
    environment = {f"MONGODB_{name.upper()}": value for name, value in values.items()}
    return settings.load(environment={"PACS_HOME": str(home), **environment}).settings


def parsed(home: Path, **values: str) -> dict[str, Any]:
    return dict(parse_uri(mongo_uri(load(home, **values)), validate=False))


def test_hosts_and_ports_are_zipped_into_the_seed_list(tmp_path: Path) -> None:
    uri = mongo_uri(load(tmp_path, hosts='["mongo1", "mongo2"]', ports="[27017, 27018]"))

    assert uri == "mongodb://mongo1:27017,mongo2:27018/"


@pytest.mark.parametrize(("ports", "expected"), [("", [27017, 27017]), ("[4000]", [4000, 4000]), ("1,2", [1, 2])])
def test_one_port_or_none_holds_for_all_hosts(tmp_path: Path, ports: str, expected: list[int]) -> None:
    nodes = parsed(tmp_path, hosts="a,b", ports=ports)["nodelist"]

    assert nodes == list(zip(["a", "b"], expected, strict=True))


def test_addresses_of_ip_version_6_are_bracketed(tmp_path: Path) -> None:
    uri = mongo_uri(load(tmp_path, hosts='["::1", "[fe80::1%eth0]", "10.0.0.1"]', ports="[1, 2, 3]"))

    assert uri == "mongodb://[::1]:1,[fe80::1%25eth0]:2,10.0.0.1:3/"
    assert [host for host, _ in parse_uri(uri)["nodelist"]] == ["::1", "fe80::1%eth0", "10.0.0.1"]


@pytest.mark.parametrize("secret", ["p@ss:w/rd?#[]%+ &=", "ünï", "plain"])
def test_user_and_password_survive_whatever_is_in_them(tmp_path: Path, secret: str) -> None:
    found = parsed(tmp_path, hosts="a", user=f"me{secret}", password=secret, auth_source="users")

    assert (found["username"], found["password"]) == (f"me{secret}", secret)
    assert found["options"]["authSource"] == "users"


@pytest.mark.parametrize("given", [{"user": "me"}, {"password": "secret"}, {}])
def test_one_of_user_and_password_alone_means_no_login(tmp_path: Path, given: dict[str, str]) -> None:
    assert mongo_uri(load(tmp_path, hosts="a", **given)) == "mongodb://a:27017/"


def test_options_are_passed_on_and_win(tmp_path: Path) -> None:
    given = "?replicaSet=rs0&authsource=mine&readPreferenceTags=dc:ny,rack:1&readPreferenceTags="

    uri = mongo_uri(load(tmp_path, hosts="a", options=given, **LOGIN))

    options = parse_uri(uri)["options"]
    assert (options["replicaSet"], options["authSource"]) == ("rs0", "mine")
    assert options["readPreferenceTags"] == [{"dc": "ny", "rack": "1"}, {}]
    assert uri.lower().count("authsource") == 1


def test_tls_files_are_found_from_the_project_folder(tmp_path: Path) -> None:
    values = {"tls": "true", "tls_ca_file": "ca.pem", "tls_certificate_key_file": "/etc/key & cert.pem"}

    uri = mongo_uri(load(tmp_path, hosts="a", **values, **{"tls_certificate_key_file_password": "p&="}))

    options = parse_uri(uri, validate=False)["options"]
    assert options["tls"] in (True, "true")
    assert options["tlsCAFile"] == str(tmp_path / "ca.pem")
    assert options["tlsCertificateKeyFile"] == "/etc/key & cert.pem"
    assert options["tlsCertificateKeyFilePassword"] == "p&="


@pytest.mark.parametrize(
    ("values", "subject"),
    [
        ({"hosts": '["a", "b", "c"]', "ports": "[1, 2]"}, "MONGODB_PORTS"),
        ({"hosts": '["a:27017"]'}, "MONGODB_HOSTS"),
        ({"hosts": '["mongodb://a"]'}, "MONGODB_HOSTS"),
        ({"hosts": '["a@b"]'}, "MONGODB_HOSTS"),
        ({"hosts": '["a"'}, "MONGODB_HOSTS"),
        ({"hosts": "a", "ports": "[0]"}, "MONGODB_PORTS"),
        ({"hosts": "a", "name": "a/b"}, "MONGODB_NAME"),
        ({"hosts": "a", "options": "replicaSet"}, "MONGODB_OPTIONS"),
        ({"hosts": "a", "options": "a=b&tlsCertificateKeyFilePassword=x"}, "MONGODB_OPTIONS"),
        ({"hosts": "a", "tls_ca_file": "ca.pem"}, "MONGODB_TLS_CA_FILE"),
        ({"hosts": "a", "timeout_s": "0"}, "MONGODB_TIMEOUT_S"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(tmp_path: Path, values: dict[str, str], subject: str) -> None:
    with pytest.raises(Invalid) as refused:
        load(tmp_path, **values)

    assert refused.value.subject == subject
    assert subject in str(refused.value)


def test_no_hosts_make_no_url(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="MONGODB_HOSTS is not set"):
        mongo_uri(load(tmp_path))


def test_passwords_are_never_shown(tmp_path: Path) -> None:
    loaded = load(tmp_path, hosts="a", tls="true", **LOGIN, **{"tls_certificate_key_file_password": "s3cret"})

    shown = f"{loaded} {loaded!r} {settings.effective(loaded)}"
    assert "hunter2" not in shown
    assert "s3cret" not in shown
