"""DIMSE over TLS with DCMTK: what is sent and received, who is let in, and certificates that are renewed."""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import ssl
import subprocess
import time

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from pacs.dimse import client
from pacs.dimse.peers import Peers, parse_peer
from pacs.dimse.requests import Requests
from pacs.dimse.tls import Files, ServerTls
from pacs.dimse.wire import Closed, Timeouts
from pacs.errors import Invalid
from tests.builders import ct, data_set_of
from tests.certificates import Authority
from tests.server import Server, dcmtk, dcmtk_environment, free_port
from tests.unit.dimse.archive import dimse_archive
from tests.unit.dimse.peer import STUDY_MOVE

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
ANY_CIPHER = "TLS_AES_128_GCM_SHA256"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("hospital"), "hospital")


@pytest.fixture(scope="module")
def ours(hospital):
    return hospital.certify("archive")


@pytest.fixture(scope="module")
def theirs(hospital):
    return hospital.certify("modality")


@pytest.fixture(scope="module")
def pacs(tmp_path_factory, hospital, ours):
    """An archive that wants certificates of its peers."""
    tls = ServerTls(Files(hospital.path, ours.path, ours.key), "required")
    with dimse_archive(
        tmp_path_factory.mktemp("archive"), Files(hospital.path, ours.path, ours.key), tls=tls
    ) as archive:
        yield archive


def over_tls(tool, pacs, hospital, certificate, *arguments):
    files = ("+tls", certificate.key, certificate.path, "+cf", hospital.path)
    return dcmtk(tool, *files, "-aec", "ARCHIVE", "127.0.0.1", str(pacs.server.tls_port), *arguments)


@contextlib.contextmanager
def storescp(folder, *options):
    """DCMTK's storescp; its port."""
    port = free_port()
    folder.mkdir()
    process = subprocess.Popen(
        ["/usr/bin/storescp", *map(str, options), "-od", str(folder), "+B", str(port)],
        env=dcmtk_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


def moved_by_pynetdicom(pacs, hospital, certificate, study, destination):
    """The final status; DCMTK's movescu knows no TLS."""
    context = ssl.create_default_context(cafile=str(hospital.path))
    context.load_cert_chain(certificate.path, certificate.key)
    entity = AE("MOVER")
    entity.add_requested_context(STUDY_MOVE)
    association = entity.associate(
        "127.0.0.1", pacs.server.tls_port, ae_title="ARCHIVE", tls_args=(context, "127.0.0.1")
    )
    assert association.is_established
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", study
    *_, (status, _) = association.send_c_move(identifier, destination, STUDY_MOVE)
    association.release()
    return status.Status


def test_dcmtk_echoes_stores_and_finds_over_tls_and_is_moved_to(pacs, hospital, theirs, tmp_path):
    study = "1.2.826.0.1.3680043.10.1462.501"
    file = ct(study, size_bytes=2_000_000, columns=512)
    (tmp_path / "in.dcm").write_bytes(file)
    assert over_tls("echoscu", pacs, hospital, theirs).returncode == 0
    stored = over_tls("storescu", pacs, hospital, theirs, tmp_path / "in.dcm")
    assert stored.returncode == 0, stored.stdout
    keys = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
    found = over_tls("findscu", pacs, hospital, theirs, *keys, "-k", "PatientID")
    assert study in found.stdout, found.stdout

    options = ("-aet", "TLSSCP", "+tls", theirs.key, theirs.path, "+cf", hospital.path)
    with storescp(tmp_path / "out", *options) as port:
        with pacs.peers_path.open("a") as peers:
            peers.write(f"TLSSCP=127.0.0.1:{port}:{ANY_CIPHER}\n")
        # The second goes over the association of the first.
        for _ in range(2):
            assert moved_by_pynetdicom(pacs, hospital, theirs, study, "TLSSCP") == 0
    (path,) = (tmp_path / "out").iterdir()
    assert path.read_bytes().endswith(data_set_of(file))


def test_a_peer_without_a_certificate_or_with_a_strangers_is_refused_where_one_is_required(pacs, hospital, tmp_path):
    stranger = Authority(tmp_path, "stranger").certify("intruder")
    assert over_tls("echoscu", pacs, hospital, stranger).returncode != 0
    anonymous = ("+tla", "+cf", hospital.path, "-aec", "ARCHIVE", "127.0.0.1", str(pacs.server.tls_port))
    assert dcmtk("echoscu", *anonymous).returncode != 0


@pytest.mark.parametrize(("clients", "stranger_returns"), [("none", 0), ("optional", 1)])
def test_certificates_of_peers_are_a_matter_of_setting(tmp_path, hospital, ours, clients, stranger_returns):
    stranger = Authority(tmp_path, "stranger").certify("intruder")
    tls = ServerTls(Files(hospital.path, ours.path, ours.key), clients)
    with dimse_archive(tmp_path / "archive", tls=tls, port=None) as pacs:
        assert pacs.server.port is None
        anonymous = ("+tla", "+cf", hospital.path, "-aec", "ARCHIVE", "127.0.0.1", str(pacs.server.tls_port))
        assert dcmtk("echoscu", *anonymous).returncode == 0
        assert bool(over_tls("echoscu", pacs, hospital, stranger).returncode) == bool(stranger_returns)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # that is the point of it
def test_old_protocols_and_ciphers_are_refused(pacs, hospital, theirs):
    def version_with(**options):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(hospital.path)
        context.load_cert_chain(theirs.path, theirs.key)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = options.get("maximum", ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(options.get("ciphers", "ALL:@SECLEVEL=0"))
        with (
            socket.create_connection(("127.0.0.1", pacs.server.tls_port)) as plain,
            context.wrap_socket(plain) as secured,
        ):
            return secured.version(), secured.cipher()[0]

    assert version_with()[0] == "TLSv1.2"
    assert version_with(maximum=ssl.TLSVersion.TLSv1_3)[0] == "TLSv1.3"
    for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises(ssl.SSLError, match=r"PROTOCOL_VERSION|INTERNAL_ERROR|NO_PROTOCOLS"):
            version_with(maximum=old)
    for ciphers in ("ECDHE-RSA-AES128-SHA256", "AES128-SHA", "AES128-GCM-SHA256"):
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            version_with(ciphers=f"{ciphers}:@SECLEVEL=0")
    assert over_tls("echoscu", pacs, hospital, theirs, "+pa").returncode != 0


def shown_certificate(pacs, hospital, theirs):
    """Serial number of the certificate that a new association is shown."""
    context = ssl.create_default_context(cafile=str(hospital.path))
    context.load_cert_chain(theirs.path, theirs.key)
    plain = socket.create_connection(("127.0.0.1", pacs.server.tls_port))
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
        return secured.getpeercert()["serialNumber"]


def test_new_certificates_are_shown_without_a_restart_and_broken_ones_never(tmp_path, hospital, theirs, caplog):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(made):
        shutil.copy(made.path, certificate)
        shutil.copy(made.key, key)

    put(hospital.certify("first"))
    tls = ServerTls(Files(hospital.path, certificate, key), "required")
    with dimse_archive(tmp_path / "archive", tls=tls) as pacs:
        first = shown_certificate(pacs, hospital, theirs)
        assert shown_certificate(pacs, hospital, theirs) == first

        with caplog.at_level(logging.ERROR):
            certificate.write_text("half a certificate")
            assert shown_certificate(pacs, hospital, theirs) == first
            assert shown_certificate(pacs, hospital, theirs) == first
        (told,) = [record.getMessage() for record in caplog.records if record.name == "pacs.dimse.tls"]
        assert "certificates not renewed" in told
        assert "cert.pem" in told

        put(hospital.certify("second"))
        assert shown_certificate(pacs, hospital, theirs) != first


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder, ca, cert: Files(ca.path, folder / "none.pem"), "none.pem: No such file"),
        (lambda folder, ca, cert: Files(ca.path, cert.path, ca._key), "the key is not the certificate's"),
        (lambda folder, ca, cert: Files(cert.key, cert.path, cert.key), "no certificate in PEM format"),
        (lambda folder, ca, cert: Files(None, cert.path, cert.key), "set DIMSE_TLS_CA"),
        (lambda folder, ca, cert: Files(ca.path), "set DIMSE_TLS_CERTIFICATE"),
    ],
)
def test_files_that_cannot_be_used_are_named_at_the_start(tmp_path, hospital, ours, make, message):
    with pytest.raises(Invalid, match=message):
        ServerTls(make(tmp_path, hospital, ours)).context()


def test_an_idle_association_is_aborted_over_tls_at_the_end(tmp_path, hospital, ours, theirs):
    tls = ServerTls(Files(hospital.path, ours.path, ours.key), "required")
    with dimse_archive(tmp_path / "archive", tls=tls) as pacs:
        files = Files(hospital.path, theirs.path, theirs.key)
        peer = parse_peer("ARCHIVE", f"127.0.0.1:{pacs.server.tls_port}:{ANY_CIPHER}", files)
        association = client.associate(peer, "MODALITY", [], Timeouts(5, 5))
        pacs.server.stop(5)
        with pytest.raises(Closed, match="aborted by the peer"):
            association.receive(5)
        association.close()


def test_who_never_shakes_hands_or_falls_silent_is_let_go_and_holds_up_nobody(tmp_path, hospital, ours, theirs):
    tls = ServerTls(Files(hospital.path, ours.path, ours.key), "required")
    timeouts = Timeouts(associating_s=2, message_s=0.5)
    with dimse_archive(tmp_path / "archive", tls=tls, timeouts=timeouts) as pacs:
        address = ("127.0.0.1", pacs.server.tls_port)
        with socket.create_connection(address) as silent, socket.create_connection(address) as plain:
            plain.sendall(b"\1\0\0\0\0\4abcd")
            peer = parse_peer(
                "ARCHIVE", f"127.0.0.1:{address[1]}:{ANY_CIPHER}", Files(hospital.path, theirs.path, theirs.key)
            )
            association = client.associate(peer, "MODALITY", [], Timeouts(5, 5))
            association._wire.send(b"\4\0")  # of a P-DATA-TF that never comes
            for connection in (silent, plain):
                connection.settimeout(10)
                with contextlib.suppress(ConnectionResetError):
                    while connection.recv(4096):
                        pass
            with pytest.raises(Closed):
                association.receive(10)
            association.close()


def test_workers_share_a_port_with_tls_and_need_none_without(tmp_path, hospital, ours, theirs):
    port = free_port()
    settings = {
        "SERVER_WORKERS": "2",
        "DIMSE_PORT": "0",
        "DIMSE_TLS_PORT": str(port),
        "DIMSE_TLS_CERTIFICATE": str(ours.path),
        "DIMSE_TLS_KEY": str(ours.key),
        "DIMSE_TLS_CA": str(hospital.path),
    }
    files = ("+tls", theirs.key, theirs.path, "+cf", hospital.path)
    with Server(tmp_path / "server", settings) as server:
        for _ in range(4):
            echoed = dcmtk("echoscu", *files, "-aec", server.ae_title, "127.0.0.1", str(port))
            assert echoed.returncode == 0, echoed.stdout
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", server.dimse_port))
        assert f"{server.ae_title}@127.0.0.1:{port} (TLS)" in server.log()
        # Ours is shown to others too, as a client.
        assert server.pacs("echo", f"{server.ae_title}@127.0.0.1:{port}:{ANY_CIPHER}").returncode == 0
        assert server.stop() == 0


def test_a_server_that_would_not_listen_at_all_says_so(tmp_path):
    with pytest.raises(AssertionError, match="DIMSE_PORT and DIMSE_TLS_PORT are both 0"):
        Server(tmp_path, {"DIMSE_PORT": "0"}).start()


def test_a_peer_whose_certificate_nobody_vouches_for_gets_nothing(tmp_path, theirs):
    with storescp(tmp_path / "out", "+tls", theirs.key, theirs.path, "-ic") as port:
        peer = parse_peer("TLSSCP", f"127.0.0.1:{port}:{ANY_CIPHER}")
        with pytest.raises(Closed, match="TLS with TLSSCP failed: certificate not accepted"):
            client.associate(peer, "ARCHIVE", [], Timeouts(associating_s=5))


def test_a_certificate_for_another_host_is_refused(tmp_path, hospital):
    other = hospital.certify("elsewhere", "DNS:elsewhere.example")
    with storescp(tmp_path / "out", "+tls", other.key, other.path, "-ic") as port:
        peer = parse_peer("TLSSCP", f"127.0.0.1:{port}:{ANY_CIPHER}", Files(hospital.path))
        with pytest.raises(Closed, match="certificate not accepted"):
            client.associate(peer, "ARCHIVE", [], Timeouts(associating_s=5))


def test_a_peer_has_authority_certificate_and_host_name_of_its_own(tmp_path, ours):
    theirs = Authority(tmp_path / "theirs", "theirs")
    scp, us = theirs.certify("elsewhere", "DNS:elsewhere.example"), theirs.certify("us")
    toml = tmp_path / "peers.toml"
    with storescp(tmp_path / "out", "+tls", scp.key, scp.path, "+cf", theirs.path) as port:
        files = f'ca = "{theirs.path}", certificate = "{us.path}", key = "{us.key}"'
        for verified, expected in (("true", "certificate not accepted"), ("false", None)):
            toml.write_text(
                f'[peers.SCP]\nhost = "127.0.0.1"\nport = {port}\ntls = {{ {files}, verify_host = {verified} }}\n'
            )
            peer = Peers(tmp_path / "none", Files(None, ours.path, ours.key), toml).find("SCP")
            if expected:
                with pytest.raises(Closed, match=expected):
                    client.associate(peer, "ARCHIVE", [], Timeouts(5, 5))
            else:
                requests = Requests(peer, "ARCHIVE", Timeouts(5, 5))
                assert requests.echo() > 0
