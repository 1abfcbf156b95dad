"""Warning headers in the form that PS3.18 shows (8.3.4.2, 10.6.3.1): ``299 {service}: "text"``."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 500


def warnings(base: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    """Header fields, one a text; names that a client made up are cut and cleaned of what a header cannot bear."""
    return [("Warning", f'299 {base}: "{_clean(text)}"') for text in texts]


def _clean(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "?" for c in text[:_LONGEST])
