"""``pacs completion``: what a shell needs to complete commands and options of ``pacs``."""

from __future__ import annotations

import argparse
from typing import Any

from argcomplete.shell_integration import shellcode

from pacs.cli import console

_NOTES = """\
examples:
  pacs completion bash > /etc/bash_completion.d/pacs
  echo 'source <(pacs completion bash)' >> ~/.bashrc
  pacs completion zsh > "${fpath[1]}/_pacs"
  pacs completion fish > ~/.config/fish/completions/pacs.fish
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "completion",
        help="shell completion for bash, zsh and fish",
        description="Print the script that makes a shell complete commands and options of pacs.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    print(shellcode(["pacs"], shell=arguments.shell))
    return console.OK
