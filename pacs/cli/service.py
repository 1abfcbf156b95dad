"""``pacs service``: a unit for systemd, printed or installed."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacs.cli import console

if TYPE_CHECKING:
    from pacs.settings import Settings

_NOTES = """\
examples:
  pacs service unit                              print it
  sudo pacs service install --run-as pacs        write /etc/systemd/system/pacs.service
  pacs service install --user                    write ~/.config/systemd/user/pacs.service

Then: systemctl daemon-reload, systemctl enable --now pacs; with --user each as systemctl --user. The project
folder with its .env, the data folder and the program itself are written into the unit as they are now.
"""
_SYSTEM, _USER = Path("/etc/systemd/system"), Path("~/.config/systemd/user")
# What a unit of the user's own manager may not ask for, or does not need to.
_HARDENED = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
UMask=0027
ReadWritePaths={writable}
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "service",
        help="run the archive under systemd",
        description="Print or install a unit that runs `pacs serve` under systemd.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, text, run in (("unit", "print the unit", _print), ("install", "write the unit", _install)):
        action = actions.add_parser(name, help=text)
        action.add_argument("--user", action="store_true", help="for the user's own manager, not the machine's")
        action.add_argument("--run-as", metavar="USER", help="who it runs as (whoever asks; of root: pacs)")
        console.add_data_option(action)
        if name == "install":
            action.add_argument("--folder", metavar="FOLDER", type=Path, help="where to, if not the usual folder")
            action.add_argument("--force", action="store_true", help="over a unit that is there and differs")
        action.set_defaults(run=run)


def _print(arguments: argparse.Namespace) -> int:
    print(unit(_settings(arguments), user=arguments.user, run_as=_name(arguments)), end="")
    return console.OK


def _install(arguments: argparse.Namespace) -> int:
    from pacs.errors import Invalid, OutOfResources

    text = unit(_settings(arguments), user=arguments.user, run_as=_name(arguments))
    folder = arguments.folder or (_USER.expanduser() if arguments.user else _SYSTEM)
    path = folder / "pacs.service"
    try:
        if path.exists() and path.read_text() != text and not arguments.force:
            raise Invalid(f"{path} is there and differs; --force writes over it, `pacs service unit` shows the new one")
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise OutOfResources(f"{path} cannot be written: {error.strerror}") from error
    systemctl = "systemctl --user" if arguments.user else "systemctl"
    print(f"Wrote {path}. Now: {systemctl} daemon-reload && {systemctl} enable --now pacs")
    return console.OK


def _settings(arguments: argparse.Namespace) -> Settings:
    return console.load_settings(console.data_overrides(arguments), log_level="ERROR")


def _name(arguments: argparse.Namespace) -> str:
    if arguments.run_as:
        return str(arguments.run_as)
    # Nobody should run a server as root because of an oversight.
    return "pacs" if os.geteuid() == 0 else os.environ.get("USER") or "pacs"


def unit(settings: Settings, *, user: bool, run_as: str) -> str:
    """The unit's text. user: of the user's own manager, where no other user can be named."""
    home, data = settings.home, settings.dicom_store_rootpath
    needs_low_port = any(
        0 < port < 1024 for port in (settings.server_port, settings.dimse_port, settings.dimse_tls_port)
    )
    program = shutil.which("pacs", path=str(Path(sys.executable).parent))
    command = _quoted(program) if program else f"{_quoted(sys.executable)} -m pacs"
    is_below_home = any(path.is_relative_to(Path(top)) for path in (home, data, Path(sys.prefix)) for top in _HOMES)
    hardened = _HARDENED.format(
        home="no" if is_below_home else "yes",
        capabilities="CAP_NET_BIND_SERVICE" if needs_low_port else "",
        writable=_quoted(data),
    )
    return (
        "[Unit]\n"
        "Description=Medical image archive (DIMSE and DICOMweb)\n"
        "After=network-online.target\n"
        "Wants=network-online.target\n"
        f"RequiresMountsFor={_quoted(data)}\n"
        "\n[Service]\n"
        "Type=notify\n"
        f"ExecStart={command} serve\n"
        "ExecReload=/bin/kill -HUP $MAINPID\n"
        + ("" if user else f"User={run_as}\n")
        + f"WorkingDirectory={_escaped(home)}\n"
        f"Environment={_quoted(f'PACS_HOME={home}')} {_quoted(f'DICOM_STORE_ROOTPATH={data}')}\n"
        "Restart=on-failure\n"
        "RestartSec=2\n"
        # Wrong settings do not become right by another start.
        "RestartPreventExitStatus=2\n"
        "TimeoutStartSec=15min\n"  # an index of an earlier version is brought up to date first
        "TimeoutStopSec=60\n"
        "WatchdogSec=60\n"
        "KillMode=mixed\n"
        "LimitNOFILE=65536\n"
        + ("" if user else hardened)
        + "\n[Install]\n"
        + f"WantedBy={'default.target' if user else 'multi-user.target'}\n"
    )


_HOMES = ("/home", "/root")


def _escaped(value: object) -> str:
    """A percent sign has a meaning in units."""
    return str(value).replace("%", "%%")


def _quoted(value: object) -> str:
    text = _escaped(value)
    if not any(character in text for character in " \t\"'\\"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
