"""C-MOVE to a peer that wants TLS."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time

import pytest

from pacs.dimse import client
from pacs.dimse.peers import parse_peer
from pacs.dimse.wire import Closed, Timeouts
from tests.builders import ct, data_set_of
from tests.server import dcmtk_environment, free_port
from tests.unit.dimse.archive import dimse_archive

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")


@pytest.fixture
def certificate(tmp_path):
    """A key and a self-signed certificate for 127.0.0.1."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=peer",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate


@pytest.fixture
def tls_scp(tmp_path, certificate):
    """DCMTK's storescp behind TLS; its port and folder."""
    key, cert = certificate
    port, folder = free_port(), tmp_path / "out"
    folder.mkdir()
    process = subprocess.Popen(
        ["/usr/bin/storescp", "+tls", str(key), str(cert), "-ic", "-od", str(folder), "+B", str(port)],
        env=dcmtk_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        assert process.poll() is None
        time.sleep(0.02)
    yield port, folder
    process.terminate()
    process.wait()


def test_instances_are_sent_over_tls(tmp_path, tls_scp, certificate, monkeypatch):
    port, folder = tls_scp
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    file = ct(size_bytes=2_000_000, columns=512)
    with dimse_archive(tmp_path / "archive") as pacs:
        instance = pacs.put(file)
        sender = client.Sender("ARCHIVE", None, pacs.retrieve, Timeouts())
        peer = parse_peer("TLSSCP", f"127.0.0.1:{port}:TLS_AES_128_GCM_SHA256")
        outcomes = list(sender.send(peer, [instance], 0, None))
    assert [outcome.status for outcome in outcomes] == [0], outcomes
    (path,) = folder.iterdir()
    assert path.read_bytes().endswith(data_set_of(file))


def test_a_peer_whose_certificate_nobody_vouches_for_gets_nothing(tls_scp):
    port, _ = tls_scp
    peer = parse_peer("TLSSCP", f"127.0.0.1:{port}:TLS_AES_128_GCM_SHA256")
    with pytest.raises(Closed, match="TLS with TLSSCP failed"):
        client.associate(peer, "ARCHIVE", [], Timeouts(associating_s=5))
