"""What a service manager is told (systemd's sd_notify protocol), and how commands find the servers of a data folder."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PID_FILES = "serve-*.pid"
_LEAST_S = 0.1


def notify(*states: str) -> None:
    """Tell systemd, when it started this process with a socket to be told on; a lost message is no error."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        sender.sendall("\n".join(states).encode())


def notify_reloading() -> None:
    """Say READY=1 when it is done."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_s() -> float | None:
    """How often to say WATCHDOG=1; None when nobody waits for it."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return max(int(os.environ["WATCHDOG_USEC"]) / 2e6, _LEAST_S)
    except (KeyError, ValueError):
        return None


class Terminal:
    """Whether the terminal that a server was started from has gone: then a hang-up means stop, not reload."""

    def __init__(self) -> None:
        self._was_there = os.isatty(0)

    def is_gone(self) -> bool:
        return self._was_there and not os.isatty(0)


@contextmanager
def findable(data: Path) -> Iterator[None]:
    """Leave this process's id in the data folder, locked for as long as the process lives."""
    path = data / f"serve-{os.getpid()}.pid"
    descriptor = -1
    with suppress(OSError):  # whether the folder can be used is found out, and told, by whoever needs it
        data.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    try:
        yield
    finally:
        if descriptor >= 0:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            os.close(descriptor)


def servers_of(data: Path) -> list[int]:
    """Process ids of the servers that run on this machine over a data folder; what dead ones left is removed."""
    found = []
    for path in sorted(data.glob(_PID_FILES)):
        try:
            with path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            found.append(int(path.stem.removeprefix("serve-")))
        except OSError:
            continue
    return found
