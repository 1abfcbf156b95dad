"""raccoon's DCM4CHE_QRSCP_COMMAND: what its Java helper was started with, read as settings of this archive."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

_BIND = re.compile(r"(?:(?P<ae_title>[^@:]+)(?:@(?P<host>.+))?:)?(?P<port>\d+)")
_IGNORED = {
    "--all-storage": "every storage SOP class is accepted here anyway",
    "--dicomdir": "there is no DICOMDIR, the index takes its place",
    "--raccoon": "both of its store modes end in this archive, which needs no helper process",
}
_FLAGS = {"--all-storage"}


@dataclass(frozen=True, slots=True)
class QrscpCommand:
    """settings: environment names to values that the command stands for. warnings: one for each option left out."""

    settings: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def parse(command: str) -> QrscpCommand:
    """Read the JSON array of arguments. Raises ValueError saying what is wrong with it.

    ``-b [AET[@ip]:]port`` names the AE title that callers must use, and the address; ``--ae-config`` the peers;
    ``--filepath`` the pattern of file keys.
    """
    settings: dict[str, str] = {}
    warnings: list[str] = []
    arguments = _arguments(command)
    while arguments:
        option, *arguments = arguments
        option, has_value, value = option.partition("=") if option.startswith("--") else (option, "", "")
        if not has_value and option not in _FLAGS and arguments and not arguments[0].startswith("-"):
            value, *arguments = arguments
        if option in ("-b", "--bind"):
            settings.update(_bind(value))
        elif option == "--ae-config":
            settings["DIMSE_AE_CONFIG"] = value
        elif option == "--filepath":
            settings["DICOM_STORE_FILEPATH"] = value
        else:
            reason = _IGNORED.get(option, "it has no meaning here")
            warnings.append(f"DCM4CHE_QRSCP_COMMAND: {option} is ignored: {reason}")
    return QrscpCommand(settings, tuple(dict.fromkeys(warnings)))


def _arguments(command: str) -> list[str]:
    try:
        arguments = json.loads(command)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(arguments, list) or not all(isinstance(argument, str) for argument in arguments):
        raise ValueError("not an array of strings")
    return arguments


def _bind(value: str) -> dict[str, str]:
    match = _BIND.fullmatch(value)
    if match is None:
        raise ValueError(f"-b {value!r} is not [AET[@ip]:]port")
    settings = {"DIMSE_PORT": match["port"]}
    if match["ae_title"]:
        settings |= {"DIMSE_AE_TITLE": match["ae_title"], "DIMSE_CHECK_CALLED_AE": "true"}
    if match["host"]:
        settings["DIMSE_HOSTNAME"] = match["host"]
    return settings
