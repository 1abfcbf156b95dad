"""Samples to a Markdown table of medians, ranges and ratios."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.measure import Row


@dataclass
class Samples:
    """seconds and CPU seconds of one row at one peer, one of each a run. failure: why there are none."""

    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    failure: str = ""


@dataclass(frozen=True)
class Subject:
    """One peer after all runs."""

    name: str
    version: str
    samples: Mapping[str, Samples]
    cpu_s: float
    peak_bytes: int


def markdown(rows: Sequence[Row], ours: Subject, other: Subject, *, runs: int, date: str, notes: Sequence[str]) -> str:
    lines = [
        f"# {ours.name} beside {other.name}",
        "",
        f"{date}. {ours.version}; {other.version}. {machine()}.",
        f"Medians of {runs} interleaved runs; in brackets least and most. Ratio: time of {other.name} / time of "
        f"{ours.name}, above 1 is faster here. CPU: seconds of the server's processes in one run.",
        "",
        f"| row | {ours.name} | {other.name} | ratio | CPU s {ours.name} | CPU s {other.name} |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_line(row, ours.samples[row.key], other.samples[row.key]) for row in rows]
    lines += [
        f"| all runs together: CPU seconds | {ours.cpu_s:.1f} | {other.cpu_s:.1f} "
        f"| {_ratio(other.cpu_s, ours.cpu_s)} | | |",
        f"| highest resident memory | {ours.peak_bytes / 1e6:.0f} MB | {other.peak_bytes / 1e6:.0f} MB "
        f"| {_ratio(other.peak_bytes, ours.peak_bytes)} | | |",
        "",
    ]
    lines += [f"* {note}" for note in notes]
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Cores, processor and memory; nothing that names the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def _line(row: Row, ours: Samples, other: Samples) -> str:
    cells = [row.title, _timing(row, ours), _timing(row, other)]
    both = bool(ours.seconds and other.seconds)
    cells.append(_ratio(median(other.seconds), median(ours.seconds)) if both else "")
    cells += [f"{median(samples.cpu_s):.2f}" if samples.cpu_s else "" for samples in (ours, other)]
    return f"| {' | '.join(cells)} |"


def _timing(row: Row, samples: Samples) -> str:
    if not samples.seconds:
        return f"failed: {samples.failure}" if samples.failure else "–"
    middle = median(samples.seconds)
    span = f"[{_time(min(samples.seconds))} – {_time(max(samples.seconds))}]"
    rate = row.rate(middle)
    return f"{_time(middle)} {span}{f' {rate}' if rate else ''}"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _ratio(other: float, ours: float) -> str:
    return f"{other / ours:.2f}" if ours else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
