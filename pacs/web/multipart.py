"""multipart/related, both ways (RFC 2046 5.1, PS3.18 8.6.1.2).

Writing keeps header and payload apart: joining them would copy every byte once more. Reading is a state machine fed
with whatever the socket gave, so that it can run in a thread beside the file that it writes to; it is lenient where
clients are sloppy (bare LF, quoted or odd boundaries, parts without any header).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pacs.errors import Invalid

_LONGEST_HEADER = 32 * 1024
_LONGEST_BOUNDARY = 250  # RFC 2046 says 70; longer ones are met


def new_boundary() -> str:
    """Random, so that no payload holds it but by a chance of 2**-128."""
    return secrets.token_hex(16)


def boundary_of(etag: str) -> str:
    """The same for the same body, so that ranges of it fit; and no value of it can know it beforehand."""
    return hashlib.sha256(f"boundary {etag}".encode()).hexdigest()[:32]


class Writer:
    """The lines between parts.

    >>> writer = Writer("b")
    >>> writer.part("text/plain"), writer.end()
    (b'--b\\r\\nContent-Type: text/plain\\r\\n\\r\\n', b'\\r\\n--b--\\r\\n')
    """

    def __init__(self, boundary: str | None = None) -> None:
        self.boundary = boundary or new_boundary()
        self._first = True

    def content_type(self, part_type: str) -> str:
        """Content-Type of the whole body; part_type without parameters."""
        return f'multipart/related; type="{part_type}"; boundary={self.boundary}'

    def part(self, content_type: str, headers: Mapping[str, str] | None = None) -> bytes:
        """Delimiter and header of the next part, to be written before its payload."""
        lines = [("" if self._first else "\r\n") + f"--{self.boundary}", f"Content-Type: {content_type}"]
        self._first = False
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    def end(self) -> bytes:
        return f"\r\n--{self.boundary}--\r\n".encode("ascii")


@dataclass(frozen=True, slots=True)
class PartBegin:
    """headers: lower case names."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartEnd:
    """complete: False when the body ended before the part's closing boundary."""

    complete: bool


Event = PartBegin | PartEnd | memoryview


class Reader:
    """Takes a body in pieces of any size and says what they hold. Memory: one piece and one header at most.

    feed → PartBegin, any number of memoryviews, PartEnd, PartBegin … ; the memoryviews are valid until the next feed.
    """

    def __init__(self, boundary: str) -> None:
        if not boundary or len(boundary) > _LONGEST_BOUNDARY:
            raise Invalid("The multipart boundary is missing or too long", "boundary")
        self._dash_boundary = b"--" + boundary.encode("utf-8", "surrogateescape")
        self._delimiter = b"\r\n" + self._dash_boundary
        self._state = "preamble"
        self._held = b""
        self.parts = 0

    @property
    def is_ended(self) -> bool:
        """Whether the closing boundary was seen."""
        return self._state == "epilogue"

    def feed(self, data: bytes) -> Iterator[Event]:
        """Events of the next bytes. Raises Invalid for a part header without end."""
        if self._held:
            data = self._held + data
            self._held = b""
        position = 0
        while True:
            if self._state == "preamble":
                position = self._skip_preamble(data)
                if self._state == "preamble":
                    return
            elif self._state == "header":
                found = self._header(data, position)
                if found is None:
                    self._held = data[position:]
                    return
                headers, position = found
                self.parts += 1
                yield PartBegin(headers)
            elif self._state == "start":
                after = self._empty_part(data, position)
                if after is None:
                    self._held = data[position:]
                    return
                if self._state == "start":
                    self._state = "data"
                else:
                    yield PartEnd(complete=True)
                position = after
            elif self._state == "data":
                cut, after = self._find(data, position)
                if cut > position:
                    yield memoryview(data)[position:cut]
                if after is None:
                    self._held = data[cut:]
                    return
                position = after
                yield PartEnd(complete=True)
            else:
                return

    def close(self) -> Iterator[Event]:
        """The body is over. Events of what was held back; a part without its closing boundary is not complete."""
        held, self._held = self._held, b""
        if self._state == "header" and held.strip():
            raise Invalid("The body ends within a part's header", "header")
        if self._state in ("start", "data"):
            complete = held.startswith(self._delimiter) and not held[len(self._delimiter) :].strip(b" \t\r-")
            if not complete and self._state == "data" and held:
                yield memoryview(held)
            yield PartEnd(complete=complete)
        self._state = "epilogue"

    def _skip_preamble(self, data: bytes) -> int:
        start = 0
        while True:
            found = data.find(self._dash_boundary, start)
            if found < 0:
                self._held = data[-len(self._dash_boundary) - 1 :]
                return 0
            start = found + len(self._dash_boundary)
            if found and data[found - 1 : found] != b"\n":
                continue
            if data[start : start + 256].lstrip(b" \t")[:1] not in (b"", b"\r", b"\n", b"-"):
                continue
            end = data.find(b"\n", start)
            if data.startswith(b"--", start):
                self._state = "epilogue"
                return len(data)
            if end < 0:
                self._held = data[found:] if not found else data[found - 1 :]
                return 0
            if data[start:end].strip() == b"":
                if data[end - 1 : end] != b"\r":
                    self._delimiter = b"\n" + self._dash_boundary
                self._state = "header"
                return end + 1

    def _header(self, data: bytes, position: int) -> tuple[dict[str, str], int] | None:
        """Parsed header and where the payload begins; None when more bytes are needed."""
        headers: dict[str, str] = {}
        start = position
        while True:
            end = data.find(b"\n", start)
            if end < 0 or end - position > _LONGEST_HEADER:
                if len(data) - position > _LONGEST_HEADER:
                    raise Invalid("A part's header does not end", "header")
                return None
            line = data[start:end].rstrip(b"\r").decode("utf-8", "replace")
            start = end + 1
            if not line.strip():
                return headers, self._begin(data, start)
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip().lower()] = value.strip()

    def _begin(self, data: bytes, position: int) -> int:
        """After a header. Its last line end is looked at again: an empty part's delimiter begins with it."""
        line_end = len(self._delimiter) - len(self._dash_boundary)
        if data[position - line_end : position] == self._delimiter[:line_end]:
            self._state = "start"
            return position - line_end
        self._state = "data"
        return position

    def _empty_part(self, data: bytes, position: int) -> int | None:
        """Where to go on after a header's line end; the state tells whether it was a delimiter's. None: too early."""
        after = position + len(self._delimiter)
        if data.startswith(self._delimiter, position) and len(data) >= after + 2:
            closed = self._close(data, after)
            if closed is not None:
                return closed
        elif self._delimiter.startswith(data[position:after]) and len(data) < after + 2:
            return None
        return position + len(self._delimiter) - len(self._dash_boundary)

    def _find(self, data: bytes, position: int) -> tuple[int, int | None]:
        """(end of payload that is sure, where to go on after a delimiter or None when there is none yet)."""
        search = position
        while True:
            found = data.find(self._delimiter, search)
            if found < 0:
                return max(position, self._safe_end(data, position)), None
            after = found + len(self._delimiter)
            if len(data) < after + 2:
                return found, None
            closed = self._close(data, after)
            if closed is not None:
                return found, closed
            if data.find(b"\n", after) < 0 and len(data) - after < 256 and data[after:].strip(b" \t\r") == b"":
                return found, None
            search = found + 1  # the boundary begins longer text: that is payload

    def _safe_end(self, data: bytes, position: int) -> int:
        """Where a delimiter that is cut off by the end of the data could begin, else the end."""
        length = len(self._delimiter) - 1
        start = max(position, len(data) - length)
        first = self._delimiter[:1]
        while True:
            start = data.find(first, start)
            if start < 0:
                return len(data)
            if self._delimiter.startswith(data[start:]):
                return start
            start += 1

    def _close(self, data: bytes, after: int) -> int | None:
        """What follows a delimiter decides: "--" ends the body, white space and a line end begin a part."""
        if data.startswith(b"--", after):
            self._state = "epilogue"
            return len(data)
        end = data.find(b"\n", after)
        if end < 0 or data[after:end].strip(b" \t\r") != b"":
            return None
        self._state = "header"
        return end + 1
