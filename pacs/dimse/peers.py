"""Known peers: those of ``peers.toml``, and those of ``ae.properties`` that it does not name."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from pacs.dimse.ae_properties import properties as properties
from pacs.dimse.ae_properties import read_properties
from pacs.dimse.peer import Peer as Peer
from pacs.dimse.peer import parse_peer as parse_peer
from pacs.dimse.peers_toml import read_toml
from pacs.dimse.tls import Files
from pacs.errors import Invalid

log = logging.getLogger(__name__)


class Peers:
    """Peers by AE title; their files are read again when they change. Safe to call from any thread.

    path: of ae.properties; toml_path: of peers.toml, whose entry for an AE title stands for the other file's as a
    whole. tls: the files for peers that name none of their own. No file: no peers. Raises Invalid when peers.toml is
    there and cannot be understood. When it cannot later, or is gone, that is told in the log, and what was read before
    goes on: its rules must not vanish by a slip of an editor.
    """

    def __init__(self, path: Path, tls: Files | None = None, toml_path: Path | None = None) -> None:
        tls = tls or Files()
        files = [_File(path, lambda text: read_properties(text, path.name, tls))]
        if toml_path is not None:
            files.append(_File(toml_path, lambda text: read_toml(text, toml_path, tls), is_kept=True))
        self._files = files
        self._lock = threading.Lock()
        self._peers: Mapping[str, Peer] = {}
        self.all()
        if files[-1].path == toml_path and files[-1].error:
            raise Invalid(f"{toml_path}: {files[-1].error}", "DIMSE_PEERS")

    def find(self, ae_title: str) -> Peer | None:
        """The peer with exactly this AE title, if it can be reached; spaces around it do not count."""
        peer = self.all().get(ae_title.strip())
        return peer if peer is not None and peer.host else None

    def caller(self, ae_title: str) -> Peer | None:
        """The peer with exactly this AE title, also one that only calls."""
        return self.all().get(ae_title.strip())

    def all(self) -> Mapping[str, Peer]:
        """All peers as the files have them now."""
        with self._lock:
            renewed = [file for file in self._files if file.is_renewed()]
            if renewed:
                merged: dict[str, Peer] = {}
                for file in self._files:
                    merged.update(file.peers)
                self._peers = merged
            return self._peers


class _File:
    """One file of peers. is_kept: what was read once holds until it can be read again.

    error: why it could not be read or understood the last time.
    """

    def __init__(self, path: Path, read: Callable[[str], dict[str, Peer]], *, is_kept: bool = False) -> None:
        self.path = path
        self.peers: dict[str, Peer] = {}
        self.error = ""
        self._read = read
        self._is_kept = is_kept
        self._seen: tuple[int, int, int] | None = None

    def is_renewed(self) -> bool:
        """Read the file if it has changed; whether ``peers`` are new ones."""
        try:
            stat = self.path.stat()
            # The inode too: an editor that replaces the file may leave time and size as they were.
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return False
            peers = self._read(self.path.read_text("utf-8", errors="replace"))
        except FileNotFoundError:
            if self._seen is None:
                return False
            return self._failed("it is gone", None)
        except OSError as error:
            return self._failed(error.strerror or "cannot be read", None)
        except ValueError as error:
            return self._failed(str(error), seen)
        self._seen, self.peers, self.error = seen, peers, ""
        log.info("peers read file=%s peers=%d", self.path.name, len(self.peers))
        return True

    def _failed(self, reason: str, seen: tuple[int, int, int] | None) -> bool:
        is_new = reason != self.error or seen is not None
        self._seen, self.error = seen, reason
        if not self._is_kept:
            had_any = bool(self.peers)
            self.peers = {}
            return had_any
        if is_new:
            log.error("peers not renewed, those from before go on file=%s reason=%s", self.path.name, reason)
        return False
