"""The audit trail of a real server: its file, its resource, and a syslog server that comes and goes."""

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from lxml import etree

from tests.builders import ct, data_set_of
from tests.certificates import Authority
from tests.server import Server, free_port
from tests.wire.clients import association, sop_uid_of, store_bytes, stow, wado
from tests.wire.receivers import eventually

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).parents[1] / "unit" / "observers" / "audit_message.rng"))
PASSWORD = "correct horse"  # noqa: S105
STUDY = "1.2.826.0.1.3680043.8.498.77"


class SyslogServer:
    """TCP, or TLS where there is a context: octet counted messages, as they arrive."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.received: list[bytes] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with suppress(OSError), connection:
                secured = self._context.wrap_socket(connection, server_side=True) if self._context else connection
                with secured, secured.makefile("rb") as stream:
                    while digits := _until_space(stream):
                        self.received.append(stream.read(int(digits)))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)

    def codes(self) -> list[str]:
        return [_event(_xml(one)) for one in self.received]


def _until_space(stream) -> bytes:
    digits = b""
    while (byte := stream.read(1)) not in (b"", b" "):
        digits += byte
    return digits


def _xml(frame: bytes) -> etree._Element:
    head, _, document = frame.partition(b"\xef\xbb\xbf")
    assert head.startswith(b"<85>1 20")
    assert head.endswith(b"DICOM+RFC3881 - ")
    return _valid(document)


def _valid(document: bytes) -> etree._Element:
    root = etree.fromstring(document)
    SCHEMA.assertValid(root)
    return root


def _event(root: etree._Element) -> str:
    return root.find("EventIdentification/EventID").get("csd-code")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    settings = {
        "SERVER_WORKERS": "2",
        "AUDIT_FILE": str(folder / "audit.log"),
        "AUDIT_WINDOW_S": "0.2",
        "AUDIT_SOURCE": "EAST",
        "DIMSE_CHECK_CALLED_AE": "true",
    }
    with Server(folder, settings) as server:
        yield server


def audit(server, **wanted):
    answer = requests.get(f"{server.dicomweb_url}/audit", wanted, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()["messages"]


def test_who_stored_searched_viewed_took_and_deleted_is_told(server):
    files = [ct(STUDY, PatientID="P-77", PatientName="Secret^Name") for _ in range(3)]
    assert stow(server, files[:2]).status_code == 200
    with association(server) as opened:
        assert store_bytes(opened, data_set_of(files[2]), sop_uid_of(files[2])) == 0
    found = requests.get(f"{server.dicomweb_url}/studies", {"PatientID": "P-77"}, timeout=20).json()
    assert len(found) == 1
    assert requests.get(f"{server.dicomweb_url}/studies/{STUDY}/metadata", timeout=20).status_code == 200
    assert wado(server, f"/studies/{STUDY}").status_code == 200
    eventually(lambda: len(audit(server, study=STUDY)) >= 4, "what came before the deletion")
    assert requests.delete(f"{server.dicomweb_url}/studies/{STUDY}", timeout=20).status_code == 204

    def events():
        return {(one["event"], one["action"]) for one in audit(server, study=STUDY)}

    wanted = {
        ("DICOM Instances Transferred", "C"),
        ("DICOM Instances Transferred", "R"),
        ("DICOM Instances Accessed", "R"),
        ("DICOM Study Deleted", "D"),
    }
    eventually(lambda: events() >= wanted, "all is told")
    stored = [one for one in audit(server, study=STUDY) if one["action"] == "C"]
    who = {next(them["user"] for them in one["participants"] if them["isRequestor"]): one for one in stored}
    assert {name: one["instances"] for name, one in who.items()} == {"WIRETEST": 1, "anonymous": 2}
    assert all(one["patients"] == ["P-77"] for one in audit(server, study=STUDY))
    eventually(lambda: any("P-77" in one["details"]["Query"] for one in audit(server, event="110112")), "the query")
    lines = Path(server.env["AUDIT_FILE"]).read_bytes().splitlines()
    assert len([_valid(line) for line in lines]) >= 6
    assert b"Secret" not in b"".join(lines)


def test_who_restored_from_the_trash_is_told(server):
    study = f"{STUDY}.5"
    assert stow(server, [ct(study, PatientID="P-5")]).status_code == 200
    assert requests.delete(f"{server.dicomweb_url}/studies/{study}", timeout=20).status_code == 204
    assert requests.post(f"{server.dicomweb_url}/studies/{study}/undelete", timeout=20).status_code == 200

    def restored(is_failure):
        found = [one for one in audit(server, study=study, event="110103") if one["action"] == "C"]
        return [one for one in found if one["isFailure"] is is_failure]

    eventually(lambda: len(restored(False)) == 1, "the restoration")
    assert restored(False)[0]["patients"] == ["P-5"]
    assert restored(False)[0]["instances"] == 1
    assert restored(True) == []


def test_deletion_by_a_retention_rule_is_told_with_the_rule(tmp_path):
    (tmp_path / "retention.toml").write_text('[[rule]]\nname = "old CT"\nolder_than = "1y"\nby = "study date"\n')
    settings = {"AUDIT_FILE": str(tmp_path / "audit.log"), "AUDIT_WINDOW_S": "0.2"}
    server = Server(tmp_path, settings)
    with server:
        assert stow(server, [ct(STUDY, StudyDate="20100101")]).status_code == 200
    server.env["RETENTION"] = str(tmp_path / "retention.toml")
    with server:
        eventually(lambda: audit(server, study=STUDY, event="110105", user="retention old CT"), "the deletion", 30)


def test_who_logs_in_and_out_or_fails_to_is_told(tmp_path):
    settings = {"ADMIN_PASSWORD": PASSWORD, "AUDIT_FILE": str(tmp_path / "audit.log"), "AUDIT_WINDOW_S": "0.2"}
    with Server(tmp_path, settings) as server:
        url = f"{server.dicomweb_url}/session"
        assert requests.post(url, json={"name": "admin", "password": "guess"}, timeout=20).status_code == 401
        with requests.Session() as session:
            answer = session.post(url, json={"name": "admin", "password": PASSWORD}, timeout=20)
            assert answer.status_code == 200
            assert session.delete(url, timeout=20).status_code == 204
            assert session.delete(url, timeout=20).status_code == 204  # nobody was logged in any more

        def told():
            lines = Path(settings["AUDIT_FILE"]).read_bytes().splitlines()
            found = [root for root in map(_valid, lines) if _event(root) == "110114"]
            return sorted(
                (
                    root.find("EventIdentification/EventTypeCode").get("originalText"),
                    root.find("ActiveParticipant[@UserIsRequestor='true']").get("UserID"),
                    root.find("EventIdentification").get("EventOutcomeIndicator"),
                )
                for root in found
            )

        wanted = [("Login", "admin", "0"), ("Login", "admin", "4"), ("Logout", "admin", "0")]
        eventually(lambda: told() == wanted, "all three")


def test_those_that_may_not_are_told_of(server):
    from pynetdicom import AE

    ae = AE(ae_title="STRANGER")
    ae.add_requested_context("1.2.840.10008.1.1")
    assert not ae.associate("127.0.0.1", server.dimse_port, ae_title="WRONG").is_established
    eventually(lambda: any(one["isFailure"] for one in audit(server, event="110113", user="STRANGER")), "the alert")


def test_reading_the_trail_is_an_event_too(server):
    audit(server, event="Query")
    eventually(lambda: bool(audit(server, event="110101")), "that it was read")


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "nonsense=1"])
def test_what_cannot_be_asked_is_refused(server, query):
    assert requests.get(f"{server.dicomweb_url}/audit?{query}", timeout=20).status_code == 400


def test_messages_of_an_outage_arrive_over_tls_when_it_is_over(tmp_path):
    authority = Authority(tmp_path / "ca")
    ours, theirs = authority.certify("archive"), authority.certify("repository")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.path))
    context.load_cert_chain(theirs.path, theirs.key)
    context.verify_mode = ssl.CERT_REQUIRED
    port = free_port()
    settings = {
        "AUDIT_SYSLOG": f"tls://127.0.0.1:{port}",
        "AUDIT_SYSLOG_CA": str(authority.path),
        "AUDIT_SYSLOG_CERTIFICATE": str(ours.path),
        "AUDIT_SYSLOG_KEY": str(ours.key),
        "AUDIT_WINDOW_S": "0.2",
    }
    server = Server(tmp_path / "server", settings)
    with server:
        assert stow(server, [ct(STUDY)]).status_code == 200
        eventually(lambda: "audit-syslog" in server.pacs("jobs").stdout, "it waits as a job")
    # Neither a restart of the archive nor the outage loses it.
    repository = SyslogServer(port, context)
    try:
        with server:
            eventually(lambda: "110104" in repository.codes(), "it is delivered", 60)
            eventually(lambda: repository.codes().count("110100") >= 3, "starts and the stop between them", 60)
    finally:
        repository.close()


def test_over_tcp_messages_come_one_by_one(tmp_path):
    port = free_port()
    repository = SyslogServer(port)
    try:
        with Server(tmp_path, {"AUDIT_SYSLOG": f"tcp://127.0.0.1:{port}", "AUDIT_WINDOW_S": "0.2"}) as server:
            assert stow(server, [ct(STUDY)]).status_code == 200
            eventually(lambda: {"110100", "110104"} <= set(repository.codes()), "both have come")
    finally:
        repository.close()


def test_over_udp_each_is_a_datagram(tmp_path):
    receiving = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiving.bind(("127.0.0.1", 0))
    receiving.settimeout(20)
    port = receiving.getsockname()[1]
    with receiving, Server(tmp_path, {"AUDIT_SYSLOG": f"udp://127.0.0.1:{port}", "AUDIT_WINDOW_S": "0.2"}):
        assert _event(_xml(receiving.recv(65_536))) == "110100"
