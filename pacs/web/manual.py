"""The documentation (docs/) as pages for a browser."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from aiohttp import web

from pacs.errors import NotFound
from pacs.web.additions import Addition
from pacs.web.bridge import Bridge
from pacs.web.operations import HTML, PROBLEM, Operation, Parameter

if TYPE_CHECKING:
    from markdown_it.token import Token

_NAME = re.compile(r"(?:adr/)?[a-z0-9-]+\.md")
_PAGE = Parameter(
    "document",
    "path",
    "Name of a page",
    {"type": "string", "pattern": f"^{_NAME.pattern}$"},
    "start.md",
    required=True,
)
OPERATIONS = (
    Operation(
        *("GET", "/manual/{document}", "getManualPage", "Server", "A page of the documentation", ""),
        {200: (HTML,), 404: (PROBLEM,)},
        own=(_PAGE,),
    ),
)
# Its style sheet is part of the page; nothing else is loaded, and no script runs.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.55 system-ui,sans-serif;max-width:52em;margin:2em auto}"
    "body{padding:0 1em}"
    "pre{overflow:auto;padding:.8em;border:1px solid #8888;border-radius:6px}code{font-size:.92em}"
    "table{border-collapse:collapse;display:block;overflow:auto}td,th{border:1px solid #8888;padding:.3em .6em;"
    "text-align:left;vertical-align:top}"
)


def addition() -> Addition:
    return Addition(OPERATIONS, lambda bridge, links: Manual(bridge).routes())


class Manual:
    """Paths below the API root."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/manual/{document:.+}", self.get)]

    async def get(self, request: web.Request) -> web.Response:
        """Raises NotFound."""
        name = request.match_info["document"].rstrip("/")
        if not _NAME.fullmatch(name):
            raise NotFound("there is no such page")
        headers = {
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cache-Control": "no-cache",
        }
        return web.Response(text=await self._bridge.run(_page, name), content_type=HTML, headers=headers)


def pages() -> list[str]:
    """Names of the pages, decisions left out."""
    return sorted(file.name for file in _folder().iterdir() if file.name.endswith(".md"))


def _folder() -> Traversable:
    return resources.files("pacs.web").joinpath("static", "manual")


@cache
def _page(name: str) -> str:
    # Here, not above: a server whose pages nobody reads does without its megabytes.
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML

    file = _folder().joinpath(*name.split("/"))
    if not file.is_file():
        raise NotFound("there is no such page")
    # HTML in the source is shown as text, and links to scripts are none.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    source = re.sub(r"^ *<!-- .* -->\n", "", file.read_text("utf-8"), flags=re.MULTILINE)
    tokens = markdown.parse(source)
    _give_anchors(tokens)
    for token in tokens:
        _cut_links_out_of_the_manual(token.children or [])
    title = next((tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"), name)
    assert isinstance(markdown.renderer, RendererHTML)
    body = markdown.renderer.render(tokens, markdown.options, {})
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main>\n{body}</main></body></html>\n"
    )


def _give_anchors(tokens: Sequence[Token]) -> None:
    """The ids that links to headings expect."""
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            words = re.sub(r"[^\w\- ]", "", tokens[at + 1].content.lower())
            token.attrSet("id", words.replace(" ", "-"))


def _cut_links_out_of_the_manual(tokens: Sequence[Token]) -> None:
    """Files of the project beside it are not served."""
    for token in tokens:
        target = str(token.attrGet("href") or "")
        is_page = _NAME.fullmatch(target.partition("#")[0]) or target.startswith(("#", "http://", "https://"))
        if token.type == "link_open" and not is_page:
            token.attrs.pop("href", None)
