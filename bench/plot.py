"""Results as a picture: how many times faster than Orthanc, and where the bar is."""

from __future__ import annotations

from pathlib import Path

from bench.results import OTHER, OURS, Line, Results

_COLOURS = {"pacs": "#2a6f97", "mongo": "#74a57f", "dcmqrscp": "#b8b8b8"}


def ratios(results: Results, path: Path) -> None:
    """Horizontal bars on a logarithmic scale, a row each, with a mark at the row's bar."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    subjects = [key for key in results.names if key != OTHER]
    lines = [line for line in results.lines if not (line.limit or line.in_mb) and _has_ratio(results, line)]
    lines.reverse()  # the first on top
    thickness = 0.8 / len(subjects)
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.36 * len(lines)), layout="constrained")
    for order, subject in enumerate(subjects):
        shift = 0.4 - (order + 0.5) * thickness
        found = [(place, ratio) for place, line in enumerate(lines) if (ratio := results.ratio(line, subject))]
        axes.barh(
            [place + shift for place, _ in found],
            # Bars begin at 1, as fast as Orthanc: to the left is slower.
            [ratio - 1 for _, ratio in found],
            left=1,
            height=thickness,
            color=_COLOURS.get(subject, "#888888"),
            label=results.names[subject],
        )
        if subject == OURS:
            for place, ratio in found:
                axes.text(max(ratio, 1) * 1.04, place + shift, f"{ratio:.1f}", va="center", fontsize=7)
    for place, line in enumerate(lines):
        if line.bar:
            axes.plot([line.bar, line.bar], [place - 0.42, place + 0.42], color="#c1121f", linewidth=2)
    axes.plot([], [], color="#c1121f", linewidth=2, label="bar for pacs on SQLite")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xticks([0.5, 1, 2, 5, 10, 20, 50, 100], labels=["0.5", "1", "2", "5", "10", "20", "50", "100"])
    axes.set_yticks(range(len(lines)), labels=[line.title for line in lines], fontsize=8)
    axes.set_xlabel(f"times as fast as {results.names[OTHER]} (medians of {results.runs} runs, {results.date})")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_ylim(-0.6, len(lines) - 0.4)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _has_ratio(results: Results, line: Line) -> bool:
    return any(results.ratio(line, subject) is not None for subject in results.names)
