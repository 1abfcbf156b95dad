"""Where a syslog server is: ``tls://host:port``."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = {"udp": 514, "tcp": 601, "tls": 6514}


@dataclass(frozen=True, slots=True)
class SyslogAddress:
    """transport: udp, tcp or tls."""

    transport: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}://{host}:{self.port}"


def parse(text: str) -> SyslogAddress:
    """Without a port, the one that is usual. Raises ValueError, which a setting's validation tells of."""
    parts = urlsplit(text)
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError("expected udp://host:port, tcp://host:port or tls://host:port")
    return SyslogAddress(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])
