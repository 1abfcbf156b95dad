"""What log lines, jobs and audit messages of one cause have in common: an id of the association or HTTP request.

It lies in a context variable: a thread begins without one, and what passes work on to another thread passes the
context on too (``web.bridge``). Jobs carry the id of what asked for them (``NewJob.cause``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# What others may hand us: it goes into lines and headers as it is.
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_current: ContextVar[str] = ContextVar("correlation_id", default="")

current = _current.get


def new_id() -> str:
    """Twelve hexadecimal digits, by chance."""
    return os.urandom(6).hex()


def begin(correlation_id: str = "") -> str:
    """From now on, in this thread or task, all is because of this; "": of something new. Returns the id."""
    correlation_id = correlation_id or new_id()
    _current.set(correlation_id)
    return correlation_id


@contextmanager
def caused_by(correlation_id: str) -> Iterator[None]:
    """As ``begin``, for as long as the ``with`` lasts; "": by nothing that is known."""
    token = _current.set(correlation_id)
    try:
        yield
    finally:
        _current.reset(token)


def is_acceptable(correlation_id: str) -> bool:
    """Whether somebody else's id can be ours."""
    return _ACCEPTABLE.fullmatch(correlation_id) is not None
