"""npm's oidc-provider as a process, for tests that log in at one. Keys are made here, so that tests can sign too."""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.clients import npm
from tests.server import free_port

CLIENT_ID, SECRET, AUDIENCE = "pacs", "a secret of the tests", "https://pacs.example/api"
PROGRAM = "nightly.pacs-writer"  # a client of its own, with that role


class KeyPair:
    """An RSA key that a provider signs with."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        self.private = rsa.generate_private_key(65537, 2048)

    def jwk(self) -> dict[str, Any]:
        found = jwt.algorithms.RSAAlgorithm.to_jwk(self.private, as_dict=True)
        del found["key_ops"]  # signing alone: the provider checks its own tokens too
        return {**found, "kid": self.key_id, "use": "sig", "alg": "RS256"}

    def sign(self, claims: Mapping[str, Any], **headers: Any) -> str:
        """A token; None takes a header away."""
        kept = {name: value for name, value in {"kid": self.key_id, **headers}.items() if value is not None}
        return jwt.encode(dict(claims), self.private, "RS256", kept)


class IdentityProvider:
    """archive: URL of the DICOMweb root that people come back to. Use as a context manager.

    in_id_token: whether roles and names are told in the ID token, or by userinfo alone.
    """

    def __init__(self, folder: Path, archive: str, *, in_id_token: bool = True) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.archive = archive
        self.keys = [KeyPair("first")]
        self.in_id_token = in_id_token
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def settings(self, **more: str) -> dict[str, str]:
        """Of an archive that trusts it."""
        return {
            "OIDC_ISSUER": self.issuer,
            "OIDC_CLIENT_ID": CLIENT_ID,
            "OIDC_CLIENT_SECRET": SECRET,
            "OIDC_AUDIENCE": AUDIENCE,
            **more,
        }

    def start(self) -> Self:
        page = self.archive.removesuffix("dicom-web")
        people = {
            "redirect_uris": [f"{self.archive}/session/oidc/callback"],
            "post_logout_redirect_uris": [page],
        }
        clients = [
            {"client_id": CLIENT_ID, "client_secret": SECRET, **people},
            {"client_id": "public", "token_endpoint_auth_method": "none", **people},
            {
                **{"client_id": PROGRAM, "client_secret": SECRET, "grant_types": ["client_credentials"]},
                **{"redirect_uris": [], "response_types": []},
            },
        ]
        options = {
            **{"port": self.port, "clients": clients, "audience": AUDIENCE, "inIdToken": self.in_id_token},
            "jwks": {"keys": [key.jwk() for key in self.keys]},
        }
        # Where its modules are found.
        script = npm.IDENTITY_PROVIDER / "provider.mjs"
        shutil.copy(npm.IDENTITY_SOURCE / "provider.mjs", script)
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / "provider.log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                ["node", str(script), json.dumps(options)], stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        deadline = time.monotonic() + 60
        while b"ready" not in log.read_bytes():
            is_late = self._process.poll() is not None or time.monotonic() > deadline
            assert not is_late, log.read_text()[-3000:]
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def rotate(self) -> None:
        """Sign with a new key from now on; the old one is gone."""
        self.stop()
        self.keys = [KeyPair(hashlib.sha256(self.keys[0].key_id.encode()).hexdigest()[:8])]
        self.start()

    def access_token(self) -> str:
        """What a program is given (client credentials, RFC 9068)."""
        answer = requests.post(
            f"{self.issuer}/token", data={"grant_type": "client_credentials"}, auth=(PROGRAM, SECRET), timeout=30
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def claims(self, *roles: str, **more: Any) -> dict[str, Any]:
        """Of an access token; None takes a claim away."""
        now = int(time.time())
        claims = {
            **{"iss": self.issuer, "aud": AUDIENCE, "sub": "somebody", "preferred_username": "somebody"},
            **{"iat": now, "exp": now + 300, "realm_access": {"roles": list(roles)}},
            **more,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self.stop()


def walk(session: requests.Session, url: str, name: str, back: str) -> str:
    """Log in and agree as a browser does, from the archive's redirect to where the provider sends one back.

    Returns that address, which begins with ``back``, without going there.
    """
    answer = session.get(url, allow_redirects=False, timeout=30)
    for _ in range(20):
        if answer.is_redirect:
            url = urljoin(answer.url, answer.headers["Location"])
            if url.startswith(back):
                return url
            answer = session.get(url, allow_redirects=False, timeout=30)
            continue
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:1000]}"
        form = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
        assert form is not None, answer.text[:2000]
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', answer.text))
        if 'name="login"' in answer.text:
            fields |= {"login": name, "password": "any"}
        action = urljoin(answer.url, html.unescape(form[1]))
        answer = session.post(action, data=fields, allow_redirects=False, timeout=30)
    raise AssertionError("the provider goes round in circles")
