from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from pacs.dicom.model import Target
from pacs.errors import Invalid
from pacs.web.links import Links, url_of


class Transport:
    """As much of a transport as an address needs."""

    def __init__(self, peer: str) -> None:
        self.peer = peer

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": (self.peer, 5), "sockname": ("127.0.0.1", 8081)}.get(name, default)


def base(links: Links, headers: dict[str, str], peer: str = "10.0.0.7") -> str:
    return links.base(make_mocked_request("GET", "/dicom-web/studies", headers=headers, transport=Transport(peer)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "port", "header", "expected"),
    [
        ("{host}", None, "pacs.example:8081", "http://pacs.example:8081/dicom-web"),
        ("{host}", 8081, "pacs.example", "http://pacs.example:8081/dicom-web"),
        ("{host}", 8081, "pacs.example:9", "http://pacs.example:9/dicom-web"),
        ("{host}", None, "pacs.example", "http://pacs.example:8081/dicom-web"),
        ("archive", None, "pacs.example", "http://archive/dicom-web"),
        ("{host}", None, "[::1]:8081", "http://[::1]:8081/dicom-web"),
        ("{host}", 8081, "[::1]", "http://[::1]:8081/dicom-web"),
        ("archive", 80, "pacs.example:9", "http://archive:80/dicom-web"),
        ("https://archive/", None, "pacs.example:9", "https://archive/dicom-web"),
        ("{host}", None, 'x"><script>', "http://127.0.0.1:8081/dicom-web"),
        ("{host}", None, "", "http://127.0.0.1:8081/dicom-web"),
    ],
)
def test_retrieve_url_follows_the_settings(host: str, port: int | None, header: str, expected: str) -> None:
    assert base(Links("dicom-web", host=host, port=port), {"Host": header}) == expected


def test_a_host_without_port_is_believed_when_a_proxy_shows() -> None:
    assert base(Links("dicom-web"), {"Host": "a", "X-Forwarded-For": "1.2.3.4"}) == "http://a/dicom-web"


FORWARDED = {
    "Host": "inner:8081",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "pacs.example, inner",
    "X-Forwarded-Prefix": "/archive/",
}


@pytest.mark.parametrize("proxies", [["10.0.0.0/8"], ["10.0.0.7"], ["*"]])
def test_a_trusted_proxy_says_how_the_client_sees_us(proxies: list[str]) -> None:
    links = Links("dicom-web", host="other", port=1, trusted_proxies=proxies)
    assert base(links, FORWARDED) == "https://pacs.example/archive/dicom-web"


@pytest.mark.parametrize("proxies", [[], ["192.168.0.0/16"]])
def test_forwarded_headers_of_strangers_are_ignored(proxies: list[str]) -> None:
    assert base(Links("dicom-web", trusted_proxies=proxies), FORWARDED) == "http://inner:8081/dicom-web"


def test_forwarded_rubbish_of_a_trusted_proxy_is_ignored() -> None:
    headers = {"Host": "a", "X-Forwarded-Proto": "gopher", "X-Forwarded-Host": "<b>", "X-Forwarded-Prefix": 'x"y'}
    assert base(Links("dicom-web", trusted_proxies=["*"]), headers) == "http://a/dicom-web"


def test_caller_behind_a_trusted_proxy_is_the_last_stranger() -> None:
    headers = {"X-Forwarded-For": "1.1.1.1, 2.2.2.2, 10.0.0.9"}
    request = make_mocked_request("GET", "/", headers=headers, transport=Transport("10.0.0.7"))  # type: ignore[arg-type]
    assert Links("x", trusted_proxies=["10.0.0.0/8"]).caller(request).address == "2.2.2.2"
    assert Links("x").caller(request).address == "10.0.0.7"


def test_a_proxy_that_is_no_address_is_refused() -> None:
    with pytest.raises(Invalid):
        Links("dicom-web", trusted_proxies=["proxy.example"])


def test_uids_are_percent_encoded() -> None:
    assert url_of("http://a/b", Target("1.2", "3?4", "5#6")) == "http://a/b/studies/1.2/series/3%3F4/instances/5%236"


def test_an_empty_api_root_is_the_root_of_the_server() -> None:
    assert Links("/").api_path == ""
    assert Links("/a/b/").api_path == "/a/b"
