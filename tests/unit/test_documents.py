"""What README.md and docs/ name is there: settings, commands with their options, files, headings."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from pacs import cli, settings
from tests import documents
from tests.server import PROJECT

# Capitals with underscores that are no settings: of the standard, of systemd, and of raccoon-dicom.
OTHER_NAMES = {
    "DCM4CHE_QRSCP_COMMAND",
    "LINEAR_EXACT",
    "OIDC_TEST",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_SAMPLER",
    "PACS_HOME",
    "SYCN_TO_FHIR_SERVER",
}
_NAME = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
_COMMAND = re.compile(r"(?:^|[\s/(])pacs ((?:[a-z][a-z-]*)(?: [^#|;&<>()\"']*)?)")
_PAGES = pytest.mark.parametrize("page", documents.PAGES, ids=documents.name_of)


@_PAGES
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    known = {*settings.names(), *OTHER_NAMES}
    assert {name for text in documents.code(page) for name in _NAME.findall(text)} - known == set()


@_PAGES
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    parser = cli._parser([])
    wrong = []
    for text in documents.code(page):
        for command in _COMMAND.findall(text):
            complaint = _complaint(parser, command.split())
            if complaint:
                wrong.append(f"pacs {command}: {complaint}")
    assert wrong == []


def _complaint(parser: argparse.ArgumentParser, words: list[str]) -> str:
    """What is wrong with the words of a command; "" for nothing."""
    if "…" in words:  # of any
        return ""
    while (actions := _subcommands(parser)) and words and re.fullmatch(r"[a-z_-]+", words[0]):
        if words[0] not in actions:
            return f"no command {words[0]}"
        parser, words = actions[words[0]], words[1:]
    known = parser._option_string_actions
    options = [word.strip("[]").partition("=")[0] for word in words if word.strip("[").startswith("--")]
    return ", ".join(f"no option {option}" for option in options if option not in known)


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def test_the_check_of_commands_finds_mistakes() -> None:
    parser = cli._parser([])
    assert _complaint(parser, ["account", "add", "NAME", "--role", "reader"]) == ""
    assert _complaint(parser, ["accounts", "add"]) == "no command accounts"
    assert _complaint(parser, ["account", "make"]) == "no command make"
    assert _complaint(parser, ["verify", "--all"]) == "no option --all"


@_PAGES
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    broken = []
    for target in documents.links(page):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in documents.anchors(path)):
            broken.append(target)
    assert broken == []


def test_readme_lists_every_page() -> None:
    listed = set(documents.links(PROJECT / "README.md"))
    pages = {documents.name_of(page) for page in documents.PAGES} - {"README.md"}
    assert pages - listed == set()


def test_blocks_that_nobody_runs_are_few_and_say_why() -> None:
    shell = [block for page in documents.PAGES for block in documents.blocks(page) if block.language == "sh"]
    left_out = [block for block in shell if block.not_run]
    assert [block.place for block in left_out if len(block.not_run.split()) < 3] == []
    assert len(left_out) <= len(shell) / 3
    # Without a language a block is neither run nor left out: it shows output.
    assert [
        block.place
        for page in documents.PAGES
        for block in documents.blocks(page)
        if not block.language and re.search(r"^(?:curl|storescu|sudo|git|pip|scripts/) ", block.text, re.MULTILINE)
    ] == []
