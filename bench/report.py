"""Results to Markdown: a table of medians, ranges, ratios and bars, and one of CPU seconds."""

from __future__ import annotations

from statistics import fmean

from bench.results import OTHER, OURS, Line, Results, Samples


def markdown(results: Results, plot: str = "") -> str:
    names = results.names
    ratios = [key for key in names if key != OTHER and OTHER in names]
    judged = OURS in names
    head = ["row"]
    head += ["bar", f"ratio of {names[OURS]}", "holds"] if judged and OTHER in names else ["bar", "holds"]
    head += [f"ratio of {names[key]}" for key in ratios if key != OURS]
    head += list(names.values())
    head += ["the disk alone"] if results.disk else []
    lines = [
        f"# {' beside '.join(names.values())}",
        "",
        f"{results.date}. {'; '.join(results.versions.values())}. {results.machine}.",
        "",
        f"Medians of {results.runs} interleaved runs after one that does not count; in brackets least and most. Ratio: "
        f"{names.get(OTHER, 'Orthanc')}'s time by that of the subject, above 1 the subject is faster. The bar is for "
        f"{names.get(OURS, 'pacs')} on SQLite: a ratio (×), or a value that it must not exceed (≤).",
        "",
        *([f"![Ratios and bars]({plot})", ""] if plot else []),
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
    ]
    for line in results.lines:
        cells = [line.title, _bar(line)]
        cells += [_ratio(results, line, OURS)] if judged and OTHER in names else []
        cells.append(_holds(results, line) if judged else "")
        cells += [_ratio(results, line, key) for key in ratios if key != OURS]
        cells += [_cell(line, results.samples[key][line.key]) for key in names]
        cells += [_disk(results, line)] if results.disk else []
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *verdict(results), "", *_cpu(results), ""]
    lines += [f"* {note}" for note in results.notes]
    return "\n".join(lines) + "\n"


def verdict(results: Results) -> list[str]:
    """How many bars hold, and which do not."""
    if OURS not in results.names:
        return ["No bars: this project was left out."]
    barred = [line for line in results.lines if line.bar or line.limit]
    held = [line for line in barred if results.is_held(line, OURS)]
    below = [line for line in barred if results.is_held(line, OURS) is False]
    unknown = [line for line in barred if results.is_held(line, OURS) is None]
    lines = [f"{len(held)} of {len(barred)} bars hold."]
    if below:
        lines += ["", "Below their bars:", ""]
        lines += [
            f"* {line.title}: "
            + (f"{_ratio(results, line, OURS)} of ×{line.bar:g}{_reach(results, line)}" if line.bar else "")
            + (_excess(line, results) if line.limit else "")
            for line in below
        ]
    if unknown:
        lines += ["", f"Without a figure: {', '.join(line.title for line in unknown)}."]
    return lines


def _reach(results: Results, line: Line) -> str:
    ratio = results.disk_ratio(line)
    return f"; the disk alone, without archive and client, makes {ratio:.2f}" if ratio is not None else ""


def _disk(results: Results, line: Line) -> str:
    samples = results.disk.get(line.key)
    ratio = results.disk_ratio(line)
    return (_cell(line, samples) + (f", ratio {ratio:.2f}" if ratio is not None else "")) if samples else ""


def _excess(line: Line, results: Results) -> str:
    value = results.samples[OURS][line.key].middle
    return f"{_value(line, value)}, at most {_value(line, line.limit)}"


def _cpu(results: Results) -> list[str]:
    names = results.names
    lines = [
        "CPU seconds of the server's processes for one run of the row, or for one request where the time is of one; "
        "means of all runs. Requests of a few milliseconds are near the clock's step.",
        "",
        f"| row | {' | '.join(names.values())} |",
        "|" + "---|" * (len(names) + 1),
    ]
    for line in results.lines:
        if not line.in_mb:
            cells = [_seconds(results.samples[key][line.key]) for key in names]
            lines.append(f"| {line.title} | {' | '.join(cells)} |")
    totals = [f"{results.cpu_s[key]:.1f}" if key in results.cpu_s else "" for key in names]
    return [*lines, f"| all runs of all rows | {' | '.join(totals)} |"]


def _seconds(samples: Samples) -> str:
    if not samples.cpu_s:
        return "–"
    mean = fmean(samples.cpu_s)
    return f"{mean:.2f}" if mean >= 0.1 else f"{mean:.4f}"


def _bar(line: Line) -> str:
    if line.limit:
        return f"≤ {line.limit:g} {'MB' if line.in_mb else 's'}"
    return f"×{line.bar:g}" if line.bar else ""


def _holds(results: Results, line: Line) -> str:
    held = results.is_held(line, OURS)
    return "" if held is None else "yes" if held else "**no**"


def _ratio(results: Results, line: Line, subject: str) -> str:
    ratio = results.ratio(line, subject)
    return f"{ratio:.2f}" if ratio is not None else ""


def _cell(line: Line, samples: Samples) -> str:
    if not samples.values:
        return samples.failure or "–"
    middle = samples.middle
    text = _value(line, middle)
    if len(samples.values) > 1:
        text += f" [{_value(line, min(samples.values))} – {_value(line, max(samples.values))}]"
    rate = "" if line.in_mb else line.rate(middle)
    lost = f" ({samples.failure})" if samples.failure else ""
    return f"{text} {rate}".rstrip() + lost


def _value(line: Line, value: float) -> str:
    if line.in_mb:
        return f"{value:.0f} MB"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"
