"""Functions that tests have the pool's workers run: well-behaved ones and others."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

from pacs.errors import Invalid, NotAcceptable


def add(left: int, right: int = 1) -> int:
    return left + right


def own_id(pause_s: float = 0.0) -> int:
    time.sleep(pause_s)
    return os.getpid()


def bytes_of(size: int) -> bytes:
    return bytes(size)


def crash() -> None:
    ctypes.string_at(0)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def devour(size: int) -> int:
    return len(bytearray(size))


def refuse() -> None:
    raise NotAcceptable("nothing of this", ("image/png", "image/jpeg"))


def refuse_key() -> None:
    raise Invalid("no such key", "Rows")


def fail() -> None:
    raise KeyError("a defect")


def imported() -> list[str]:
    return sorted(sys.modules)


def interrupt_ignored() -> bool:
    os.kill(os.getpid(), signal.SIGINT)
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def touch_later(path: str, pause_s: float) -> None:
    time.sleep(pause_s)
    with open(path, "w"):  # noqa: PTH123
        pass
