"""Structured reports (PS3.3 C.17.3) as a page for people, or as plain text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from pacs.dicom.model import Attributes
from pacs.imaging.annotate import date_of, name_of, time_of
from pacs.imaging.source import Source, first, items

_CONTENT = "0040A730"
_EVIDENCE = ("0040A375", "0040A385", "00081115")
_MOST_ITEMS = 100_000
_DEEPEST_HEADING = 6

_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#1a1a1a;background:#fff}"
    "table{border-collapse:collapse;margin:1em 0}th{text-align:left;font-weight:normal;color:#555}"
    "th,td{padding:.15em 1.2em .15em 0;vertical-align:top}"
    "section{margin-left:.6em;padding-left:.8em;border-left:2px solid #ddd}h1{margin-bottom:.2em}"
    "h2,h3,h4,h5,h6{margin:.9em 0 .2em}p{margin:.2em 0;white-space:pre-wrap}dfn{font-style:normal;font-weight:600}"
    "small{color:#777}"
)

_HEADER = (
    ("Patient", "00100010"),
    ("Patient ID", "00100020"),
    ("Born", "00100030"),
    ("Sex", "00100040"),
    ("Study", "00081030"),
    ("Study date", "00080020"),
    ("Accession number", "00080050"),
    ("Referring physician", "00080090"),
    ("Institution", "00080080"),
    ("Content date", "00080023"),
    ("Completion", "0040A491"),
    ("Verification", "0040A493"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One content item. depth: 1 for children of the root; number: "1.2.3", as references name it.

    name: concept; code: where that is from; value: for reading; href: of what it refers to ("#i1.2": an item), or "".
    """

    depth: int
    number: str
    value_type: str
    name: str
    code: str
    value: str
    href: str = ""
    note: str = ""


def html(source: Source, base: str) -> bytes:
    """The report as UTF-8 HTML, every text escaped. base: URL of the DICOMweb root, for links to what it refers to."""
    attributes = source.attributes
    title = _title(attributes)
    out = [
        "<!DOCTYPE html>\n<html><head><meta charset='utf-8'>",
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n<table>\n",
    ]
    for name, value in header(attributes):
        out.append(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>\n")
    out.append("</table>\n")
    depth = 0
    for line in lines(attributes, base):
        while depth >= line.depth:
            out.append("</section>\n")
            depth -= 1
        out += _html_of(line)
        out.append("<section>\n")
        depth = line.depth
    out += ["</section>\n"] * depth
    out.append("</body></html>\n")
    return "".join(out).replace("<section>\n</section>\n", "").encode("utf-8", "replace")


def text(source: Source, base: str) -> bytes:
    """The report as UTF-8 text, indented by depth."""
    attributes = source.attributes
    title = _title(attributes)
    out = [title, "=" * len(title), *(f"{name}: {value}" for name, value in header(attributes)), ""]
    for line in lines(attributes, base):
        indent = "  " * (min(line.depth, 40) - 1)
        value = line.value.replace("\n", "\n" + indent + "  ")
        said = ": ".join(part for part in (line.name, value) if part) or line.value_type
        out.append(
            indent
            + said
            + (f" ({line.note})" if line.note else "")
            + (f" <{line.href}>" if line.href.startswith("http") else "")
        )
    return ("\n".join(out) + "\n").encode("utf-8", "replace")


def header(attributes: Attributes) -> list[tuple[str, str]]:
    """Name and value of what stands above the report, as far as it is known."""
    found = [(name, _plain(attributes, tag)) for name, tag in _HEADER]
    for observer in items(attributes, "0040A073"):
        who = " ".join(part for part in (_plain(observer, "0040A075"), _plain(observer, "0040A027")) if part)
        found.append(("Verified by", f"{who} {_when(_plain(observer, '0040A030'))}".strip()))
    for author in items(attributes, "0040A078"):
        found.append(("Author", " ".join(_plain(author, tag) for tag in ("0040A123", "00080080")).strip()))
    return [(name, value) for name, value in found if value]


def lines(attributes: Attributes, base: str) -> Iterator[Line]:
    """All content items in reading order, ``_MOST_ITEMS`` at most."""
    places = _places(attributes)
    # Not recursive: a report may nest as deep as its maker liked.
    waiting = [(1, str(n), item) for n, item in enumerate(items(attributes, _CONTENT), 1)][::-1]
    count = 0
    while waiting and count < _MOST_ITEMS:
        depth, number, item = waiting.pop()
        count += 1
        yield _line(depth, number, item, places, base)
        children = [(depth + 1, f"{number}.{n}", child) for n, child in enumerate(items(item, _CONTENT), 1)]
        waiting += reversed(children)
    if waiting:
        yield Line(1, "", "", "", "", f"The report has more than the {_MOST_ITEMS} items shown here.")


def _line(depth: int, number: str, item: Attributes, places: dict[str, tuple[str, str]], base: str) -> Line:
    value_type = _plain(item, "0040A040")
    concept = next(iter(items(item, "0040A043")), {})
    value, href, notes = "", "", []
    if value_type == "CONTAINER":
        pass
    elif value_type == "CODE":
        code = next(iter(items(item, "0040A168")), {})
        value = _meaning(code)
        notes.append(_code(code))
    elif value_type == "NUM":
        value = _number(item)
    elif value_type in ("IMAGE", "COMPOSITE", "WAVEFORM"):
        value, href, notes = _reference(item, places, base)
    elif value_type in ("SCOORD", "SCOORD3D", "TCOORD"):
        value, points = _coordinates(item)
        notes.append(points)
    elif "0040DB73" in item:
        target = [str(value) for value in item["0040DB73"].get("Value", ())]
        value = "see " + ".".join(target[1:] or target)
        href = "#i" + ".".join(target[1:])
    else:
        value = _scalar(item, value_type)
    return Line(
        depth,
        number,
        value_type,
        _meaning(concept),
        _code(concept),
        value,
        href,
        ", ".join(note for note in notes if note),
    )


def _html_of(line: Line) -> list[str]:
    hint = f' title="{escape(line.code)}"' if line.code else ""
    anchor = f' id="i{escape(line.number)}"'
    note = f" <small>({escape(line.note)})</small>" if line.note else ""
    name = escape(line.name)
    if line.value_type == "CONTAINER":
        level = min(line.depth + 1, _DEEPEST_HEADING)
        return [f"<h{level}{anchor}{hint}>{name or 'Section'}</h{level}>\n"]
    value = escape(line.value)
    if line.href:
        value = f'<a href="{escape(line.href)}">{value}</a>'
    label = f"<dfn{hint}>{name}:</dfn> " if name else ""
    return [f"<p{anchor}>{label}{value}{note}</p>\n"]


def _title(attributes: Attributes) -> str:
    concept = next(iter(items(attributes, "0040A043")), {})
    return _meaning(concept) or _plain(attributes, "0008103E") or "Structured report"


def _number(item: Attributes) -> str:
    measured = next(iter(items(item, "0040A300")), None)
    if measured is None:
        qualifier = next(iter(items(item, "0040A301")), {})
        return _meaning(qualifier) or "no value"
    values = [str(value) for value in measured.get("0040A30A", {}).get("Value", ()) if value is not None]
    unit = next(iter(items(measured, "004008EA")), {})
    symbol = str(first(unit, "00080100", "") or "")
    if symbol in ("1", "{counts}") or symbol.startswith("{"):
        symbol = "" if symbol == "1" else symbol.strip("{}")
    elif not symbol or len(symbol) > 12:
        symbol = _meaning(unit)
    return f"{', '.join(values) or 'no value'} {symbol}".strip()


def _reference(item: Attributes, places: dict[str, tuple[str, str]], base: str) -> tuple[str, str, list[str]]:
    reference = next(iter(items(item, "00081199")), {})
    sop = _plain(reference, "00081155")
    numbers = [str(value) for value in reference.get("00081160", {}).get("Value", ())]
    notes = []
    if numbers:
        notes.append(f"frame {', '.join(numbers[:20])}")
    segments = [str(value) for value in reference.get("0062000B", {}).get("Value", ())]
    if segments:
        notes.append(f"segment {', '.join(segments[:20])}")
    kind = _plain(item, "0040A040").capitalize()
    href = ""
    if sop in places:
        study, series = places[sop]
        parts = ("studies", study, "series", series, "instances", sop)
        href = base + "".join("/" + quote(part, safe="") for part in parts)
        if len(numbers) == 1 and numbers[0].isdigit():
            href += f"/frames/{numbers[0]}"
        href += "/rendered"
    return f"{kind} {sop}".strip(), href, notes


def _places(attributes: Attributes) -> dict[str, tuple[str, str]]:
    """SOP Instance UID → (study, series) of all that the report lists as its evidence."""
    found: dict[str, tuple[str, str]] = {}
    for tag in _EVIDENCE[:2]:
        for study in items(attributes, tag):
            for series in items(study, _EVIDENCE[2]):
                for reference in items(series, "00081199"):
                    uids = _plain(study, "0020000D"), _plain(series, "0020000E")
                    if all(uids):
                        found[_plain(reference, "00081155")] = uids
    return found


def _coordinates(item: Attributes) -> tuple[str, str]:
    kind = _plain(item, "00700023") or _plain(item, "0040A130")
    values: list[str] = []
    for tag in ("00700022", "0040A132", "0040A138", "0040A13A"):
        values = values or [str(value) for value in item.get(tag, {}).get("Value", ())]
    shown = ", ".join(values[:12]) + (", …" if len(values) > 12 else "")
    return kind.replace("_", " ").capitalize(), shown


def _scalar(item: Attributes, value_type: str) -> str:
    for tag in ("0040A160", "0040A120", "0040A121", "0040A122", "0040A123", "0040A124"):
        if tag in item:
            value = _plain(item, tag)
            return {"DATE": date_of, "TIME": time_of, "DATETIME": _when}.get(value_type, str)(value)
    return ""


def _meaning(code: Attributes) -> str:
    return _plain(code, "00080104") or _plain(code, "00080100")


def _code(code: Attributes) -> str:
    value = next((_plain(code, tag) for tag in ("00080100", "00080119", "00080120") if _plain(code, tag)), "")
    scheme = _plain(code, "00080102")
    return ", ".join(part for part in (value, scheme) if part)


def _when(stamp: str) -> str:
    return f"{date_of(stamp[:8])} {time_of(stamp[8:14])}".strip()


def _plain(attributes: Attributes, tag: str) -> str:
    """Values for reading, in one text."""
    element = attributes.get(tag, {})
    values = [value for value in element.get("Value", ()) if value is not None and not isinstance(value, list)]
    vr = element.get("vr")
    texts = [name_of(value) if isinstance(value, dict) else str(value) for value in values]
    if vr == "DA":
        texts = [date_of(value) for value in texts]
    return ", ".join(value.strip().replace("\r\n", "\n").replace("\r", "\n") for value in texts)
