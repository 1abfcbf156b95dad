"""The ``pacs`` command: one module a subcommand, each with ``add_to(subcommands)``."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword

from pacs.errors import Invalid, PacsError, PeerFailed

_DESCRIPTION = """\
A medical image archive: DIMSE and DICOMweb over one index and one file store.

  pacs serve --demo            start, with a few example images in it
  pacs import /media/cdrom     take in folders, DICOMDIRs and ZIP files
  pacs migrate --help          take over raccoon-dicom, Orthanc or a DICOMweb server
  pacs status                  how the archive is, on one page
  pacs verify                  check that index and files agree
"""
_EPILOG = """\
Settings come from the environment and from .env; `pacs config` shows them all.
Exit codes: 0 done; 1 done, but some of it failed or a problem was found; 2 wrong arguments
or settings, or a port in use; 3 the archive or server cannot be opened, reached or written;
130 interrupted.
"""

_GC_OBJECTS = 50_000  # made before the garbage collector looks

# Only the module of the command that is asked for is loaded: together they take a third of a second.
_COMMANDS = (
    *("serve", "status", "top", "log", "service", "reload"),
    *("import", "migrate", "verify", "reindex", "backup", "restore"),
    *("account", "token", "peers", "user", "echo", "find", "get", "move", "send"),
    *("jobs", "rules", "commitments", "fhir", "index", "export", "trash", "undelete", "purge", "retention"),
    *("viewer", "config", "completion", "conformance", "version"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # What is loaded stays; to look through all of it after every few hundred objects is a tenth of a start.
    gc.set_threshold(_GC_OBJECTS)
    from pacs.cli import console

    given = sys.argv[1:] if arguments is None else arguments
    if "_ARGCOMPLETE" in os.environ:  # a shell asks (`pacs completion`)
        import argcomplete

        argcomplete.autocomplete(_parser([]))
    parsed = _parser(given).parse_args(given)
    try:
        code: int = parsed.run(parsed)
        return code
    except Invalid as error:
        print(f"pacs: {error}", file=sys.stderr)
        return console.USAGE
    except PeerFailed as error:
        print(f"pacs: {error}", file=sys.stderr)
        return console.FAILED
    except PacsError as error:
        print(f"pacs: {error}", file=sys.stderr)
        return console.UNAVAILABLE
    except KeyboardInterrupt:
        return console.INTERRUPTED
    except BrokenPipeError:  # `pacs config | head`
        sys.stderr.close()
        return console.OK


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Of the command that the arguments name; of all where they name none."""
    parser = argparse.ArgumentParser(
        "pacs", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subcommands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in [name for name in arguments[:1] if name in _COMMANDS] or _COMMANDS:
        # "import" is a word of Python's.
        import_module(f"pacs.cli.{name}" if not iskeyword(name) else f"pacs.cli.{name}_").add_to(subcommands)
    return parser
