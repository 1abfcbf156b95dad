"""README.md and docs/ as tests read them: blocks of code, commands, names, links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.server import PROJECT

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)$")
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """line: of its first line of code, from 1. not_run: why nobody runs it, "" where it is run."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str = ""

    @property
    def place(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in their order."""
    found: list[Block] = []
    begun: tuple[int, str, str] | None = None
    reason, indent, lines = "", "", list[str]()
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if begun is not None and fence is not None:
            found.append(Block(page, begun[0], begun[1], "\n".join(lines), begun[2]))
            begun, reason, lines = None, "", []
        elif begun is not None:
            lines.append(line.removeprefix(indent))
        elif fence is not None:
            begun, indent = (number + 1, fence["language"], reason), fence["indent"]
        elif line.strip():
            said = _NOT_RUN.search(line)
            reason = said["reason"] if said else ""
    assert begun is None, f"{page}: a block without an end"
    return found


def code(page: Path) -> list[str]:
    """All that is set as code: lines of blocks, and words within text."""
    text = page.read_text("utf-8")
    fenced = [line for block in blocks(page) for line in block.text.replace("\\\n", " ").splitlines()]
    return [*fenced, *_SPAN.findall(re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL))]


def links(page: Path) -> list[str]:
    """Targets within the project."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [target for target in _LINK.findall(_SPAN.sub("", text)) if "://" not in target]


def anchors(page: Path) -> set[str]:
    """Of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
