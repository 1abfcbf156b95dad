"""What a row of the table is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.material import Material
from bench.peers import Peer
from bench.results import Line


@dataclass(frozen=True)
class Timing:
    """value: seconds, or megabytes. cpu_s: of processes that work for the archive but are not of its own tree."""

    value: float
    cpu_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Row(Line):
    """A line of the table and how it is measured.

    run: the measurement, with the check that the answer was whole. before: done first, not timed. repeats: how many
    requests the time is the mean of. is_early: run while the archive holds a few studies only; is_last: run once, after
    all others. is_web: needs DICOMweb. lacking: archives that are left out, by their keys, and why.
    """

    run: Callable[[Peer, Material], Timing | float]
    before: Callable[[Peer, Material], None] | None = None
    repeats: int = 1
    is_early: bool = False
    is_last: bool = False
    is_web: bool = False
    lacking: tuple[tuple[str, str], ...] = ()

    def why_not(self, peer: Peer) -> str:
        """Why this archive has no figure here; empty when it has."""
        if self.is_web and not peer.has_web:
            return "no DICOMweb"
        return dict(self.lacking).get(peer.key, "")
