"""peers.toml: what is read, what is refused, and that its rules never vanish by a slip."""

from __future__ import annotations

import json
import logging
from ipaddress import ip_network
from pathlib import Path

import pytest

from pacs.dicom.model import Role, Scope
from pacs.dimse.peer import Peer, Rules, Sending
from pacs.dimse.peers import Peers
from pacs.dimse.tls import ClientTls, Files
from pacs.dimse.user import Identity
from pacs.dimse.wire import Timeouts
from pacs.errors import Invalid
from tests.server import PROJECT

WHOLE = """
[peers.MODALITY]
addresses = ["10.1.0.0/16", "10.2.0.7", "2001:db8::/32"]
services = ["store", "echo"]
max_associations = 4

[peers."ARCHIVE 2"]
host = "archive.example"
port = 2762
tls = { ca = "ca.pem", certificate = "/etc/us.pem", key = "us.key", verify_host = false }
connections = 3
bytes_per_s = "5MiB"
transfer_syntaxes = ["1.2.840.10008.1.2.4.80", "stored", "JPEG 2000 Lossless"]
keep_s = 0
association_timeout_s = 5
message_timeout_s = 7.5
user = { name = "pacs", passcode_file = "passcode" }
"""


@pytest.fixture
def files(tmp_path):
    """Paths of ae.properties and peers.toml."""
    (tmp_path / "passcode").write_text("secret\n")
    return tmp_path / "ae.properties", tmp_path / "peers.toml"


def read(files, text, tls=None):
    files[1].write_text(text)
    return Peers(files[0], tls, files[1])


def test_every_key_is_read(files, tmp_path):
    peers = read(files, WHOLE)

    networks = tuple(map(ip_network, ("10.1.0.0/16", "10.2.0.7/32", "2001:db8::/32")))
    rules = Rules(frozenset({"store", "echo"}), networks, 4)
    assert peers.caller("MODALITY") == Peer("MODALITY", "", 0, rules=rules, sending=Sending(max_associations=4))
    assert peers.find("MODALITY") is None
    archive = peers.find("ARCHIVE 2")
    ours = Files(tmp_path / "ca.pem", Path("/etc/us.pem"), tmp_path / "us.key")
    assert archive.tls == ClientTls(ours, is_host_verified=False)
    assert archive.sending == Sending(("1.2.840.10008.1.2.4.80", "stored", "1.2.840.10008.1.2.4.90"), 3, None, 0)
    assert archive.sending.pace.bytes_per_s == 5 << 20
    assert archive.user == Identity(2, b"pacs", b"secret")
    assert archive.timeouts(Timeouts(1, 2, 3)) == Timeouts(5, 7.5, 3)


def test_what_is_told_of_a_peer_is_json_without_secrets(files):
    told = json.dumps([peer.described() for peer in read(files, WHOLE).all().values()])
    assert "archive.example" in told
    assert "secret" not in told


def test_an_entry_stands_for_the_whole_line_of_the_other_file(files):
    files[0].write_text("A=old:1:SOME_CIPHER\nB=other:2\n")
    peers = read(files, '[peers.A]\nhost = "new"\nport = 3\n')
    assert peers.find("A") == Peer("A", "new", 3)
    assert peers.find("B") == Peer("B", "other", 2)
    files[1].write_text('[peers.B]\nhost = "new"\nport = 4\n')
    assert (peers.find("A").host, peers.find("B").port) == ("old", 4)
    files[0].write_text("A=old:5\n")
    assert (peers.find("A").port, peers.find("B").port) == (5, 4)


def test_files_of_tls_are_ours_where_a_peer_names_none(files, tmp_path):
    ours = Files(tmp_path / "ca", tmp_path / "cert", tmp_path / "key")
    text = '[peers.A]\nhost="a"\nport=1\ntls=true\n[peers.B]\nhost="b"\nport=1\ntls={ca="x"}\n'
    peers = read(files, text, ours)
    assert peers.find("A").tls == ClientTls(ours)
    assert peers.find("B").tls == ClientTls(Files(tmp_path / "x", ours.certificate, ours.key))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("host = 'h'", "host and port belong together"),
        ("serivces = ['store']", "serivces: Extra inputs"),
        ("services = 'store'", "services: Input should be a valid list"),
        ("services = ['STORE']", "services.0: String should match"),
        ("addresses = ['10.0.0.0/33']", "addresses: Value error"),
        ("addresses = '10.0.0.1'", "expected a list of addresses"),
        ("transfer_syntaxes = ['1.2.3']", "unknown transfer syntax 1.2.3"),
        ("transfer_syntaxes = ['1.2.840.10008.1.2.4.50']", "would lose something"),
        ("max_associations = 0", "max_associations: Input should be greater"),
        ("bytes_per_s = 'fast'", "bytes_per_s"),
        ("user = { name = 'x', passcode_file = 'none' }", "none: No such file"),
        ("user = { name = '', passcode = 'very secret' }", "user.name: String should have at least 1 character"),
    ],
)
def test_an_entry_that_cannot_be_understood_is_told_and_nothing_is_allowed_to_the_peer(files, caplog, entry, reason):
    files[0].write_text("A=elsewhere:1\n")
    with caplog.at_level(logging.ERROR):
        peers = read(files, f"[peers.A]\n{entry}\n[peers.B]\nhost = 'b'\nport = 2\n")
    (record,) = caplog.records
    assert "peer=A" in record.getMessage()
    assert reason in record.getMessage()
    assert "very secret" not in record.getMessage()
    assert peers.caller("A").is_broken
    assert peers.find("A") is None
    assert peers.find("B") is not None


@pytest.mark.parametrize("text", ["[peers.A", "[peer.A]\nhost = 'a'\n", "peers = 3"])
def test_a_file_that_cannot_be_understood_is_refused_at_the_start(files, text):
    with pytest.raises(Invalid, match=r"peers\.toml"):
        read(files, text)


def test_rules_stay_when_the_file_breaks_or_goes_away(files, caplog):
    peers = read(files, "[peers.A]\nservices = ['echo']\n")
    with caplog.at_level(logging.ERROR):
        files[1].write_text("[peers.A\nservices = []\n")
        for _ in range(3):
            assert peers.caller("A").rules.services == {"echo"}
        files[1].unlink()
        for _ in range(3):
            assert peers.caller("A").rules.services == {"echo"}
    assert [record.getMessage().count("peers not renewed") for record in caplog.records] == [1, 1]
    files[1].write_text("[peers.A]\nservices = ['find']\n")
    assert peers.caller("A").rules.services == {"find"}


def test_the_example_is_a_valid_file(files, caplog):
    with caplog.at_level(logging.WARNING):
        peers = read(files, (PROJECT / "config" / "peers.toml.example").read_text())
    assert not caplog.records
    assert len(peers.all()) >= 3


def test_role_and_scope_of_a_peer_are_read(files):
    peers = read(files, '[peers.VIEWER]\nrole = "reader"\nmodalities = ["CT", "MR"]\nlabels = ["study-7"]\n')
    rules = peers.caller("VIEWER").rules
    assert (rules.role, rules.scope) == (Role.READER, Scope(frozenset({"CT", "MR"}), frozenset({"study-7"})))
    allowed = ("store", "find", "move", "get", "echo", "worklist", "mpps", "mpps-retrieve", "ups", "commitment")
    assert {name for name in allowed if rules.allows(name)} == set(allowed) - {"store", "mpps", "commitment"}
    assert peers.caller("VIEWER").described()["modalities"] == ["CT", "MR"]


@pytest.mark.parametrize(
    "entry", ['role = "boss"', 'modalities = "CT"', 'modalities = ["ct"]', 'labels = ["two words"]']
)
def test_a_peer_whose_scope_cannot_be_understood_may_do_nothing(files, entry):
    assert read(files, f"[peers.VIEWER]\n{entry}\n").caller("VIEWER").is_broken
