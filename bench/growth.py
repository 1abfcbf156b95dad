"""How figures grow with the index: ``growth.json``, the table MILLION.md and the plot ``growth.png``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

INGEST_BAR = 0.8  # of the best rate at a smaller size
SEARCH_BAR = 2.0  # times the p95 at a smaller size
TURNS = ("first time", "again")


@dataclass
class Search:
    """median_s, p95_s: of the first time, and of once more. is_growing: the answer grows with the archive."""

    title: str
    is_growing: bool
    median_s: list[float] = field(default_factory=list)
    p95_s: list[float] = field(default_factory=list)


@dataclass
class Size:
    """What was measured when the index had so many. rate, slowest: instances a second, of batches."""

    instances: int
    studies: int
    rate: float
    slowest: float
    cpu_us: float
    bytes_each: float
    searches: dict[str, Search] = field(default_factory=dict)

    @classmethod
    def of(cls, data: dict[str, object]) -> Size:
        size = cls(**data)  # type: ignore[arg-type]
        size.searches = {key: Search(**search) for key, search in size.searches.items()}  # type: ignore[arg-type]
        return size


@dataclass
class Growth:
    """One engine's sizes, from small to large."""

    engine: str
    about: str
    sizes: list[Size] = field(default_factory=list)

    def ingest(self) -> float:
        """Rate at the last size by the best at 10,000 instances or more before it, or of all when there is none."""
        earlier = [size.rate for size in self.sizes[:-1] if size.instances >= 10_000] or [s.rate for s in self.sizes]
        return self.sizes[-1].rate / max(earlier)

    def slower(self, key: str, turn: int) -> float:
        """p95 of a search at the last size by the larger of those at the first two sizes, which are small."""
        earlier = [size.searches[key].p95_s[turn] for size in self.sizes[:-1][:2] or self.sizes]
        return self.sizes[-1].searches[key].p95_s[turn] / max(earlier)


def read(path: Path) -> dict[str, Growth]:
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    return {
        name: Growth(one["engine"], one["about"], [Size.of(size) for size in one["sizes"]])
        for name, one in found.items()
    }


def write(path: Path, engines: dict[str, Growth]) -> None:
    path.write_text(json.dumps({name: asdict(one) for name, one in engines.items()}, indent=1) + "\n")


def markdown(growth: Growth) -> str:
    sizes = growth.sizes
    ingest = growth.ingest()
    lines = [
        f"## {growth.engine}",
        "",
        growth.about,
        "",
        "| | " + " | ".join(f"{size.instances:,}" for size in sizes) + " | last : earlier | bar | holds |",
        "|---|" + "---|" * (len(sizes) + 3),
        _line("Put, instances a second (median of batches)", [f"{size.rate:,.0f}" for size in sizes])
        + f" {ingest:.2f} | ≥ {INGEST_BAR:g} | {_word(ingest >= INGEST_BAR)} |",
        _line("Put, the slowest batch", [f"{size.slowest:,.0f}" for size in sizes]) + " | | |",
        _line(
            "Put, µs of CPU an instance (SQLite: all of it; MongoDB: the client's)",
            [f"{size.cpu_us:,.0f}" for size in sizes],
        )
        + f" {sizes[-1].cpu_us / sizes[0].cpu_us:.2f} | | |",
        _line("Index, bytes an instance", [f"{size.bytes_each:,.0f}" for size in sizes]) + " | | |",
    ]
    for key, search in sizes[-1].searches.items():
        for turn, word in enumerate(TURNS):
            cells = [_both(size.searches[key], turn) for size in sizes]
            slower = growth.slower(key, turn)
            growing = " (the answer grows)" if search.is_growing else ""
            # A longer answer may take longer: shown, but without a bar.
            bar = "| " if search.is_growing else f"≤ {SEARCH_BAR:g} | {_word(slower <= SEARCH_BAR)}"
            lines.append(_line(f"{search.title}, {word}{growing}", cells) + f" {slower:.2f} | {bar} |")
    return "\n".join(lines) + "\n"


def plot(engines: dict[str, Growth], path: Path) -> None:
    """Ingest above, p95 of searches (the first time) below; an engine a column, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        2,
        len(engines),
        figsize=(5.5 * len(engines), 7),
        layout="constrained",
        sharex="col",
        sharey="row",
        squeeze=False,
    )
    for column, growth in enumerate(engines.values()):
        places = [size.instances for size in growth.sizes]
        rates, searches = axes[0][column], axes[1][column]
        rates.plot(places, [size.rate for size in growth.sizes], marker="o", color="#2a6f97", label="ingest")
        best = growth.sizes[-1].rate / growth.ingest()
        rates.axhline(best * INGEST_BAR, color="#c1121f", linewidth=1, label=f"bar: {INGEST_BAR:g} of the best")
        rates.set_title(growth.engine)
        rates.set_ylim(bottom=0)
        rates.set_ylabel("instances a second")
        for key, search in growth.sizes[-1].searches.items():
            values = [size.searches[key].p95_s[0] * 1e3 for size in growth.sizes]
            style = "--" if search.is_growing else "-"
            searches.plot(places, values, style, marker="o", markersize=3, label=search.title)
        searches.set_yscale("log")
        searches.set_xscale("log")
        searches.set_ylabel("p95, ms")
        searches.set_xlabel("instances in the index")
        for one in (rates, searches):
            one.grid(alpha=0.3)
        rates.legend(fontsize=7)
    axes[1][0].legend(fontsize=6)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _line(title: str, cells: list[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def _both(search: Search, turn: int) -> str:
    return f"{search.median_s[turn] * 1e3:.1f} / {search.p95_s[turn] * 1e3:.1f}"


def _word(is_held: bool) -> str:
    return "yes" if is_held else "**no**"
