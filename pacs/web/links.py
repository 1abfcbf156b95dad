"""The addresses that the archive hands out, and who it is talking to behind a proxy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import quote

from aiohttp import web

from pacs import correlation
from pacs.dicom.model import Caller, Target
from pacs.errors import Invalid
from pacs.services.access import Principal
from pacs.web.identity import PRINCIPAL

# What may stand in a Host header; anything else would be echoed into JSON and headers.
_HOST = re.compile(r"(?:[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.%]+\])(?::\d{1,5})?")
# What a proxy adds, whether it is one of ours or not.
PROXY_HEADERS = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
_HAS_PORT = re.compile(r":\d+$")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~%@:+-]+)*")


class Links:
    """Makes absolute URLs.

    host: DICOMWEB_HOST, where "{host}" becomes the request's Host; port: DICOMWEB_PORT, appended when the host carries
    none. Clients that leave the port out of Host (dicomweb-client does) get the one they came in by, unless a header
    shows that a proxy stands between. X-Forwarded-Proto, -Host and -Prefix win when the request comes from one of
    ``trusted_proxies`` (addresses or networks, "*" for any). Raises Invalid for a proxy that is neither.
    """

    def __init__(
        self, api_root: str, *, host: str = "{host}", port: int | None = None, trusted_proxies: Sequence[str] = ()
    ) -> None:
        self._api_path = "".join(f"/{quote(piece)}" for piece in api_root.split("/") if piece)
        self._host = host or "{host}"
        self._port = port
        self._trust_all = "*" in trusted_proxies
        self._trusted: list[IPv4Network | IPv6Network] = []
        for proxy in trusted_proxies:
            if proxy != "*":
                try:
                    self._trusted.append(ip_network(proxy, strict=False))
                except ValueError as error:
                    raise Invalid(f"Not an address or network: {proxy!r}", "trusted proxies") from error

    @property
    def api_path(self) -> str:
        """Path of the DICOMweb root: "/dicom-web", or "" when it is the server's root."""
        return self._api_path

    def base(self, request: web.BaseRequest) -> str:
        """URL of the DICOMweb root as this client sees it, without a slash at the end."""
        forwarded = self._is_trusted(request.remote)
        scheme = _first(request, "X-Forwarded-Proto").lower() if forwarded else ""
        host = _first(request, "X-Forwarded-Host") if forwarded else ""
        prefix = _first(request, "X-Forwarded-Prefix").rstrip("/") if forwarded else ""
        if scheme not in ("http", "https"):
            scheme = request.scheme
        if not _PREFIX.fullmatch(prefix):
            prefix = ""
        if not _HOST.fullmatch(host):
            host = self._host.replace("{host}", _request_host(request))
            if "://" in host:
                scheme, _, host = host.partition("://")
            host = host.rstrip("/")
            port = self._port or (_local_port(request) if self._host == "{host}" else None)
            if port is not None and not _HAS_PORT.search(host):
                host = f"{host}:{port}"
        return f"{scheme}://{host}{prefix}{self._api_path}"

    def page(self, request: web.BaseRequest) -> str:
        """URL of the web page as this client sees it, with the slash at its end."""
        return f"{self.base(request).removesuffix(self._api_path)}/"

    def here(self, request: web.BaseRequest) -> str:
        """URL of the requested resource, without query."""
        path = request.rel_url.raw_path
        return self.base(request) + path.removeprefix(self._api_path)

    def caller(self, request: web.BaseRequest) -> Caller:
        """Who asks, by what was found out before.

        The address behind a trusted proxy is the last one that is not a proxy of ours.
        """
        address = request.remote or ""
        if self._is_trusted(address):
            hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
            foreign = [hop for hop in hops if not self._is_trusted(hop)]
            address = (foreign or hops or [address])[-1][:64]
        known = request.get(PRINCIPAL)
        if not isinstance(known, Principal):
            return Caller("anonymous", address, "web")
        return Caller(known.name, address, "web", known.role, known.scope)

    def request_id(self, request: web.BaseRequest) -> str:
        """X-Request-ID of a trusted proxy, where it can be ours; else ""."""
        given = request.headers.get("X-Request-ID", "")
        return given if given and correlation.is_acceptable(given) and self._is_trusted(request.remote) else ""

    def _is_trusted(self, address: str | None) -> bool:
        if self._trust_all:
            return True
        if not self._trusted or not address:
            return False
        try:
            ip = ip_address(address)
        except ValueError:
            return False
        return any(ip in network for network in self._trusted)


def url_of(base: str, target: Target) -> str:
    """URL of a study, series or instance."""
    url = f"{base}/studies/{quote(target.study_uid, safe='')}"
    if target.series_uid is not None:
        url += f"/series/{quote(target.series_uid, safe='')}"
    if target.sop_uid is not None:
        url += f"/instances/{quote(target.sop_uid, safe='')}"
    return url


def _local_port(request: web.BaseRequest) -> int | None:
    """The port that a client without a proxy came in by; None when it is its scheme's own."""
    if any(name in request.headers for name in PROXY_HEADERS):
        return None
    name = request.transport.get_extra_info("sockname") if request.transport else None
    if not name or name[1] == (443 if request.scheme == "https" else 80):
        return None
    return int(name[1])


def _first(request: web.BaseRequest, header: str) -> str:
    return request.headers.get(header, "").partition(",")[0].strip()


def _request_host(request: web.BaseRequest) -> str:
    """Host of the request; the socket's own address when there is none, or none that can be one."""
    host = request.headers.get("Host", "").strip()
    if _HOST.fullmatch(host):
        return host
    name = request.transport.get_extra_info("sockname") if request.transport else None
    if not name:
        return "localhost"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
