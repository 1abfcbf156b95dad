"""Accounts, for administrators; API tokens of oneself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from pacs.dicom.model import Role
from pacs.errors import Forbidden, Invalid
from pacs.services.access import role_of, scope_of
from pacs.services.accounts import Accounts, word_of
from pacs.services.tokens import Tokens
from pacs.web.additions import Addition
from pacs.web.answer import json_response
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.operations import JSON, PROBLEM, Operation, Parameter
from pacs.web.session import local_account, object_of

_GROUP = "Accounts"
_NAME = Parameter(
    "name", "path", "Name of an account", {"type": "string", "minLength": 1, "maxLength": 64}, "alice", required=True
)
_TOKEN = Parameter("id", "path", "Id of a token", {"type": "string", "minLength": 1}, "0123456789abcdef", required=True)
_MISSING = {404: (PROBLEM,)}
_ADMIN = Role.ADMIN
ADMINISTRATION = (
    Operation("GET", "/accounts", "listAccounts", _GROUP, "All accounts", "", {200: (JSON,)}, needs=_ADMIN),
    Operation(
        *("POST", "/accounts", "addAccount", _GROUP, "Make an account", "", {201: (JSON,), 409: (PROBLEM,)}),
        bodies=(JSON,),
        needs=_ADMIN,
    ),
    Operation(
        *("GET", "/accounts/{name}", "getAccount", _GROUP, "One account", "", {200: (JSON,), **_MISSING}),
        own=(_NAME,),
        needs=_ADMIN,
    ),
    Operation(
        *("PATCH", "/accounts/{name}", "changeAccount", _GROUP, "Change role, scope, password; disable", ""),
        {200: (JSON,), 409: (PROBLEM,), **_MISSING},
        bodies=(JSON,),
        own=(_NAME,),
        needs=_ADMIN,
    ),
    Operation(
        *("DELETE", "/accounts/{name}", "removeAccount", _GROUP, "Remove an account and its tokens", ""),
        {204: (), 409: (PROBLEM,), **_MISSING},
        own=(_NAME,),
        needs=_ADMIN,
    ),
)
OPERATIONS = (
    Operation("GET", "/tokens", "listTokens", _GROUP, "Tokens of oneself", "", {200: (JSON,)}, needs=Role.READER),
    Operation(
        *("POST", "/tokens", "addToken", _GROUP, "Make a token: it is told once", ""),
        {201: (JSON,), 409: (PROBLEM,)},
        bodies=(JSON,),
        needs=Role.READER,
    ),
    Operation(
        *("DELETE", "/tokens/{id}", "removeToken", _GROUP, "Remove a token of oneself", "", {204: (), **_MISSING}),
        own=(_TOKEN,),
        needs=Role.READER,
    ),
)


def addition(accounts: Accounts, tokens: Tokens, *, is_administered: bool) -> Addition:
    """is_administered: whether accounts may be looked after over HTTP (ADMIN_API)."""
    offered = (*ADMINISTRATION, *OPERATIONS) if is_administered else OPERATIONS
    return Addition(
        offered,
        lambda bridge, links: [
            *AccountResources(accounts, bridge, links, is_administered=is_administered).routes(),
            *TokenResources(tokens, bridge).routes(),
        ],
    )


class AccountResources:
    def __init__(self, accounts: Accounts, bridge: Bridge, links: Links, *, is_administered: bool) -> None:
        self._accounts = accounts
        self._bridge = bridge
        self._links = links
        self._is_administered = is_administered

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.get("/accounts", self.list),
            web.post("/accounts", self.add),
            web.get("/accounts/{name}", self.get),
            web.patch("/accounts/{name}", self.change),
            web.delete("/accounts/{name}", self.remove),
        ]

    async def list(self, request: web.Request) -> web.Response:
        found = await self._bridge.run(self._allowed().all)
        return json_response([account.as_json() for account in found])

    async def get(self, request: web.Request) -> web.Response:
        account = await self._bridge.run(self._allowed().find, request.match_info["name"])
        return json_response(account.as_json())

    async def add(self, request: web.Request) -> web.Response:
        """Of name, password, role ("reader" if not said), modalities, labels."""
        accounts = self._allowed()
        found = await object_of(request)
        name, password, role = (
            word_of(found, "name"),
            word_of(found, "password"),
            role_of(found.get("role", "reader")),
        )
        account = await self._bridge.run(accounts.add, name, password, role, scope_of(_plain(found)))
        headers = {"Location": f"{self._links.base(request)}/accounts/{account.name}"}
        return json_response(account.as_json(), 201, headers)

    async def change(self, request: web.Request) -> web.Response:
        """Of some of role, modalities, labels, is_disabled and password. 409 for the last administrator."""
        accounts = self._allowed()
        account = await self._bridge.run(accounts.change, request.match_info["name"], await object_of(request))
        return json_response(account.as_json())

    async def remove(self, request: web.Request) -> web.Response:
        await self._bridge.run(self._allowed().remove, request.match_info["name"])
        return web.Response(status=204)

    def _allowed(self) -> Accounts:
        if not self._is_administered:
            raise Forbidden("administration over HTTP is switched off here (ADMIN_API)")
        return self._accounts


class TokenResources:
    """Of whoever logged in with a name and a password: a token makes no further ones."""

    def __init__(self, tokens: Tokens, bridge: Bridge) -> None:
        self._tokens = tokens
        self._bridge = bridge

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [web.get("/tokens", self.list), web.post("/tokens", self.add), web.delete("/tokens/{id}", self.remove)]

    async def list(self, request: web.Request) -> web.Response:
        found = await self._bridge.run(self._tokens.of, local_account(request))
        return json_response([token.as_json() for token in found])

    async def add(self, request: web.Request) -> web.Response:
        """Of name, role (the account's if not said), modalities, labels, days. ``token`` is in this answer alone."""
        owner = local_account(request)
        found = await object_of(request)
        days = found.get("days")
        if days is not None and (isinstance(days, bool) or not isinstance(days, int | float)):
            raise Invalid("days is a number, or null for ever", "days")
        role = role_of(found["role"]) if found.get("role") is not None else None
        token, text = await self._bridge.run(
            self._tokens.add, owner, word_of(found, "name"), role, scope_of(_plain(found)), days
        )
        return json_response({**token.as_json(), "token": text}, 201)

    async def remove(self, request: web.Request) -> web.Response:
        await self._bridge.run(self._tokens.remove, request.match_info["id"], local_account(request))
        return web.Response(status=204)


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """Modalities and labels: an account is not limited to studies, shares are."""
    return {name: found.get(name) for name in ("modalities", "labels")}
