"""A document of sections, as Markdown and as HTML: what the conformance statement is."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    """paragraphs before the table; table: header row first, () for none. level: 1 for a chapter, 2 below."""

    title: str
    level: int
    paragraphs: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()


def as_markdown(title: str, found: Sequence[Section]) -> str:
    lines = [f"# {title}", ""]
    for section in found:
        lines += [f"{'#' * (section.level + 1)} {section.title}", ""]
        for paragraph in section.paragraphs:
            lines += [paragraph, ""]
        if section.table:
            head, *rows = section.table
            lines += [_markdown_row(head), _markdown_row(["---"] * len(head)), *map(_markdown_row, rows), ""]
    return "\n".join(lines)


def as_html(title: str, found: Sequence[Section]) -> str:
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>',
        "<style>body{font-family:sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.2em .5em;text-align:left}</style></head>",
        f"<body><h1>{html.escape(title)}</h1>",
    ]
    for section in found:
        parts.append(f"<h{section.level + 1}>{html.escape(section.title)}</h{section.level + 1}>")
        parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in section.paragraphs]
        if section.table:
            head, *rows = section.table
            parts.append(f"<table><thead>{_html_row(head, 'th')}</thead><tbody>")
            parts += [_html_row(row, "td") for row in rows]
            parts.append("</tbody></table>")
    return "\n".join([*parts, "</body></html>", ""])


def yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _html_row(cells: Sequence[str], name: str) -> str:
    return f"<tr>{''.join(f'<{name}>{html.escape(cell)}</{name}>' for cell in cells)}</tr>"
