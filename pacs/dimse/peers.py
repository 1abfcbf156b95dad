"""Known peers: ``ae.properties``, one ``AET=host:port[:cipher,cipher…]`` a line, in Java's properties syntax."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pacs.dimse.tls import ClientTls, Files

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """tls: None when the peer is spoken to without it."""

    ae_title: str
    host: str
    port: int
    tls: ClientTls | None = None


class Peers:
    """The file's peers by AE title, read again when it changes. Safe to call from any thread.

    A line that cannot be understood is warned about, with its number, and the others hold. No file: no peers. tls: the
    files for peers that want TLS.
    """

    def __init__(self, path: Path, tls: Files | None = None) -> None:
        self._path = path
        self._tls = tls or Files()
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._peers: dict[str, Peer] = {}

    def find(self, ae_title: str) -> Peer | None:
        """The peer with exactly this AE title; spaces around it do not count."""
        return self.all().get(ae_title.strip())

    def all(self) -> dict[str, Peer]:
        """All peers as the file has them now."""
        with self._lock:
            try:
                stat = self._path.stat()
            except OSError:
                self._seen, self._peers = None, {}
                return self._peers
            # The inode too: an editor that replaces the file may leave time and size as they were.
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen != self._seen:
                self._read(seen)
            return self._peers

    def _read(self, seen: tuple[int, int, int]) -> None:
        try:
            text = self._path.read_text("utf-8", errors="replace")
        except OSError as error:
            log.warning("peers not read file=%s reason=%s", self._path.name, error.strerror)
            return
        peers: dict[str, Peer] = {}
        for number, key, value in properties(text):
            try:
                peer = parse_peer(key, value, self._tls)
            except ValueError as error:
                log.warning("peer ignored file=%s line=%d reason=%s", self._path.name, number, error)
                continue
            peers[peer.ae_title] = peer
        self._seen, self._peers = seen, peers
        log.info("peers read file=%s peers=%d", self._path.name, len(peers))


def parse_peer(ae_title: str, address: str, tls: Files | None = None) -> Peer:
    """A peer at host:port, or host:port:cipher,cipher: that there is a list means TLS, with the files of ``tls``
    (None: with the machine's authorities, and no certificate of ours).

    Java's names of ciphers mean nothing here: what is spoken is what BCP 195 asks for. Raises ValueError saying what is
    wrong.
    """
    ae_title = ae_title.strip()
    if not re.fullmatch(r"[\x20-\x5b\x5d-\x7e]{1,16}", ae_title):
        raise ValueError("the AE title is not 1 to 16 printable ASCII characters without backslash")
    matched = _ADDRESS.fullmatch(address.strip())
    if matched is None:
        raise ValueError("not host:port or host:port:cipher,cipher")
    port = int(matched["port"])
    if not 1 <= port <= 65535:
        raise ValueError("the port is not 1 to 65535")
    has_ciphers = bool((matched["ciphers"] or "").strip(", "))
    return Peer(ae_title, matched["v6"] or matched["host"], port, ClientTls(tls or Files()) if has_ciphers else None)


def properties(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number (from 1), key and value of each entry, as java.util.Properties.load reads them."""
    for number, line in _logical_lines(text):
        key, value = _split(line)
        yield number, _unescape(key), _unescape(value)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    lines = enumerate(re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff")), 1)
    for number, line in lines:
        line = line.lstrip(" \t\f")
        if not line or line[0] in "#!":
            continue
        while _is_continued(line):
            _, following = next(lines, (0, ""))
            line = line[:-1] + following.lstrip(" \t\f")
        yield number, line


def _is_continued(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _split(line: str) -> tuple[str, str]:
    """At the first "=", ":" or white space that no backslash stands before."""
    matched = re.match(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(.*)", line, re.DOTALL)
    assert matched is not None
    return matched[1], matched[2]


def _unescape(text: str) -> str:
    def char(matched: re.Match[str]) -> str:
        escape = matched[1]
        if len(escape) == 5:
            return chr(int(escape[1:], 16))
        return {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}.get(escape, escape)

    return re.sub(r"\\(u[0-9A-Fa-f]{4}|.)", char, text, flags=re.DOTALL)


_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\s]+)):(?P<port>[0-9]{1,6})(?::(?P<ciphers>.*))?")
