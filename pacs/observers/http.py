"""HTTP for jobs: one pool, and answers told apart into those to try again and those that are final."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import urllib3

from pacs.services.jobs import Unavailable

# Other kinds of 4xx say that the request will never be taken. 401, 403 and 404 are a matter of how things are set up,
# which somebody can mend.
_TRY_AGAIN = frozenset({401, 403, 404, 407, 408, 409, 421, 423, 425, 429})


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_final(self) -> bool:
        """Whether the same request would be refused again."""
        return 400 <= self.status < 500 and self.status not in _TRY_AGAIN


class Http:
    """timeout_s: for a connection, and for each piece of an answer. ca_file: certificates instead of the system's."""

    def __init__(self, *, timeout_s: float = 30.0, ca_file: str | None = None) -> None:
        self._pool = urllib3.PoolManager(
            num_pools=20,
            maxsize=4,
            retries=False,
            timeout=urllib3.Timeout(connect=min(timeout_s, 10.0), read=timeout_s),
            ca_certs=ca_file,
        )

    def send(
        self, method: str, address: str, body: bytes | Iterable[bytes], headers: Mapping[str, str], limit: int = 1 << 20
    ) -> Answer:
        """limit: bytes of the answer that are read. Raises Unavailable when there is none, or the server is away."""
        answer = self.exchange(method, address, body, headers, limit)
        if answer.status >= 500 or answer.status in (408, 429):
            raise Unavailable(f"{_host(address)} answered {answer.status}")
        return answer

    def exchange(
        self, method: str, address: str, body: bytes | Iterable[bytes], headers: Mapping[str, str], limit: int
    ) -> Answer:
        """Whatever the answer is. Raises Unavailable when there is none."""
        try:
            response = self._pool.request(
                method, address, body=body, headers=dict(headers), redirect=False, preload_content=False
            )
            try:
                answer = Answer(response.status, response.read(limit), response.headers)
                response.drain_conn()
            finally:
                response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(f"{_host(address)} cannot be reached: {_said(error)}") from error
        return answer

    def close(self) -> None:
        self._pool.clear()


def _host(address: str) -> str:
    return urlsplit(address).netloc.rpartition("@")[2]


def _said(error: BaseException) -> str:
    cause = getattr(error, "reason", None)
    text = str(cause if isinstance(cause, BaseException) else error)
    return text.rpartition(": ")[2][:200] or type(error).__name__
