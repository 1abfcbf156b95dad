"""``pacs config``: the settings in force, and the template that documents them."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from pacs import settings
from pacs.cli import console

_HEAD = """\
# Copy to .env in the project folder. A line that is commented out shows the default.
# The process environment wins over this file. Quotes and backticks are as in raccoon-dicom's file.
"""

# Defaults that depend on the machine.
_BY_MACHINE = {
    "IMAGING_WORKERS": "one a processor, at most 4",
    "SERVER_WORKERS": "2 where there are two processors or more, else 1",
}


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "config",
        help="show the settings in force",
        description="Show every setting in force, from defaults, .env and environment; secrets are masked.",
    )
    parser.add_argument("--json", action="store_true", help="as a JSON object")
    parser.add_argument("--template", action="store_true", help="print a documented .env with all defaults instead")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.template:
        print(template(), end="")
        return console.OK
    values = settings.effective(console.load_settings())
    if arguments.json:
        console.print_json(values)
    else:
        for name, value in values.items():
            print(f"{name}={value}")
    return console.OK


def template() -> str:
    """The text of ``config/.env.template``."""
    lines = [_HEAD.rstrip()]
    section = ""
    for name in settings.names():
        its_section, description, expected, example, default = settings.describe(name)
        if its_section != section:
            section = its_section
            lines += ["", f"# ---- {section} ".ljust(100, "-")]
        if name in _BY_MACHINE:
            default = ""
            description += f" Default: {_BY_MACHINE[name]}."
        lines += ["", *textwrap.wrap(description, 98, initial_indent="# ", subsequent_indent="# ")]
        lines += textwrap.wrap(f"Expected: {expected}.", 98, initial_indent="# ", subsequent_indent="# ")
        lines.append(f"# Example: {name}={_quoted(example)}")
        lines.append(f"#{name}={_quoted(default)}")
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    return f'"{value}"' if "{" in value and not value.startswith("`") else value
