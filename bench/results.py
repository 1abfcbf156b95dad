"""Raw figures of a run of the bench, as they are kept in ``results.json``."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

OURS, OTHER = "pacs", "orthanc"  # whose ratio the bars are for


@dataclass(frozen=True)
class Line:
    """What the table says of a row.

    key: short name; title: as printed. bar: how many times faster than Orthanc it must be; limit: or at most how much
    by itself. amount, megabytes: what the rate is of. in_mb: megabytes, not seconds.
    """

    key: str
    title: str
    bar: float = 0.0
    limit: float = 0.0
    amount: int = 0
    megabytes: float = 0.0
    in_mb: bool = False

    def rate(self, seconds: float) -> str:
        """What is behind the time, a second; empty when nothing is."""
        parts = [f"{self.amount / seconds:,.0f}/s"] if self.amount else []
        parts += [f"{self.megabytes / seconds:,.0f} MB/s"] if self.megabytes else []
        return ", ".join(parts)


@dataclass
class Samples:
    """Of one row at one archive, one a run; CPU seconds as often as values. failure: why there are none."""

    values: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def middle(self) -> float:
        return median(self.values)


@dataclass
class Results:
    """names, versions, cpu_s: by the keys of the archives. samples: by the keys of archives and of rows.

    disk: by the keys of rows, what the disk needs by itself (``bench.disk``).
    """

    date: str
    runs: int
    machine: str
    lines: list[Line]
    names: dict[str, str]
    versions: dict[str, str]
    samples: dict[str, dict[str, Samples]]
    disk: dict[str, Samples] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def ratio(self, line: Line, subject: str) -> float | None:
        """Orthanc's time, or memory, by that of a subject; above 1 the subject needs less."""
        return None if subject == OTHER else self._ratio(line, self.samples[subject][line.key])

    def disk_ratio(self, line: Line) -> float | None:
        """Orthanc's time by that of the disk alone: no archive gets further."""
        return self._ratio(line, self.disk.get(line.key, Samples()))

    def _ratio(self, line: Line, mine: Samples) -> float | None:
        other = self.samples.get(OTHER, {}).get(line.key, Samples())
        return other.middle / mine.middle if mine.values and other.values else None

    def is_held(self, line: Line, subject: str) -> bool | None:
        """Whether the bar holds; None where there is no bar, or no figure."""
        mine = self.samples[subject][line.key]
        if line.limit:
            return mine.middle <= line.limit if mine.values else None
        ratio = self.ratio(line, subject)
        return ratio >= line.bar if line.bar and ratio is not None else None

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        data = json.loads(path.read_text())
        data["lines"] = [Line(**line) for line in data["lines"]]
        data["samples"] = {
            subject: {key: Samples(**samples) for key, samples in found.items()}
            for subject, found in data["samples"].items()
        }
        data["disk"] = {key: Samples(**samples) for key, samples in data.get("disk", {}).items()}
        return cls(**data)


def machine() -> str:
    """Cores, processor and memory; nothing that names the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
