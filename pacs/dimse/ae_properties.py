"""``ae.properties``: one ``AET=host:port[:cipher,cipher…]`` a line, in Java's properties syntax."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

from pacs.dimse.peer import Peer, parse_peer
from pacs.dimse.tls import Files

log = logging.getLogger(__name__)


def read_properties(text: str, name: str, tls: Files) -> dict[str, Peer]:
    """Peers by AE title. A line that cannot be understood is warned about, with its number, and the others hold.

    name: of the file, for the log. tls: the files for peers that want TLS.
    """
    peers: dict[str, Peer] = {}
    for number, key, value in properties(text):
        try:
            peer = parse_peer(key, value, tls)
        except ValueError as error:
            log.warning("peer ignored file=%s line=%d reason=%s", name, number, error)
            continue
        peers[peer.ae_title] = peer
    return peers


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
