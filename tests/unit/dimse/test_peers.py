"""ae.properties: what java.util.Properties would read, and what is done about what cannot be read."""

from __future__ import annotations

import logging
import os

import pytest

from pacs.dimse.peers import Peer, Peers, parse_peer, properties
from pacs.dimse.tls import ClientTls


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("A=h:1", [(1, "A", "h:1")]),
        ("A = h:1", [(1, "A", "h:1")]),
        ("A h:1", [(1, "A", "h:1")]),
        ("A\th:1", [(1, "A", "h:1")]),
        ("A:h:1", [(1, "A", "h:1")]),
        ("  A=h:1", [(1, "A", "h:1")]),
        ("# comment\n! another\n\nA=h:1\r\nB=i:2\rC=j:3", [(4, "A", "h:1"), (5, "B", "i:2"), (6, "C", "j:3")]),
        ("A=h:1:\\\n  X,\\\n  Y\nB=i:2", [(1, "A", "h:1:X,Y"), (4, "B", "i:2")]),
        ("A=h:1\\\\", [(1, "A", "h:1\\")]),
        ("MY\\ AET=h:1", [(1, "MY AET", "h:1")]),
        ("A\\=B=h:1", [(1, "A=B", "h:1")]),
        ("\\u0041=h:1", [(1, "A", "h:1")]),
        ("#comment\\\nA=h:1", [(2, "A", "h:1")]),
        ("A", [(1, "A", "")]),
        ("A=h:1\\", [(1, "A", "h:1")]),
        ("\ufeffA=h:1", [(1, "A", "h:1")]),
    ],
)
def test_java_properties_syntax(text, entries):
    assert list(properties(text)) == entries


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("localhost:11113", Peer("A", "localhost", 11113)),
        (" 10.0.0.1:104 ", Peer("A", "10.0.0.1", 104)),
        ("[::1]:104", Peer("A", "::1", 104)),
        ("h:2762:TLS_A,TLS_B", Peer("A", "h", 2762, ClientTls())),
        ("h:2762: TLS_A , TLS_B ", Peer("A", "h", 2762, ClientTls())),
    ],
)
def test_addresses(address, peer):
    assert parse_peer("A", address) == peer


@pytest.mark.parametrize("address", ["", "h", "h:", ":104", "h:0", "h:65536", "h:x", "h 1:104"])
def test_wrong_addresses_are_refused(address):
    with pytest.raises(ValueError, match="port"):
        parse_peer("A", address)


@pytest.mark.parametrize("ae_title", ["", "ABCDEFGHIJKLMNOPQ", "GRÜN", "A\\B"])
def test_wrong_ae_titles_are_refused(ae_title):
    with pytest.raises(ValueError, match="AE title"):
        parse_peer(ae_title, "h:104")


def test_a_broken_line_is_named_and_the_others_hold(tmp_path, caplog):
    path = tmp_path / "ae.properties"
    path.write_text("# peers\nA=h:1\nB=nonsense\nC=i:3\n")
    with caplog.at_level(logging.WARNING):
        peers = Peers(path)
        assert set(peers.all()) == {"A", "C"}
    (record,) = caplog.records
    assert "line=3" in record.getMessage()


def test_no_file_is_no_peers_until_there_is_one(tmp_path):
    path = tmp_path / "ae.properties"
    peers = Peers(path)
    assert peers.find("A") is None
    path.write_text("A=h:1\n")
    assert peers.find("A") == Peer("A", "h", 1)
    path.unlink()
    assert peers.find("A") is None


def test_a_change_is_seen_even_within_one_second_and_with_the_same_size(tmp_path):
    path = tmp_path / "ae.properties"
    path.write_text("A=h:1\n")
    peers = Peers(path)
    assert peers.find("A").port == 1
    stat = path.stat()
    other = tmp_path / "new"
    other.write_text("A=h:2\n")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)
    assert peers.find("A").port == 2


def test_an_unchanged_file_is_not_read_again(tmp_path, caplog):
    path = tmp_path / "ae.properties"
    path.write_text("A=h:1\n")
    with caplog.at_level(logging.INFO):
        peers = Peers(path)
        for _ in range(5):
            peers.find("A")
    assert len(caplog.records) == 1


def test_ae_titles_are_found_exactly_but_for_spaces_around(tmp_path):
    path = tmp_path / "ae.properties"
    path.write_text("STORESCP=h:1\n")
    peers = Peers(path)
    assert peers.find("STORESCP ") is not None
    assert peers.find("storescp") is None
