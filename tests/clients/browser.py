"""Chromium without a window, spoken to over a pipe with its DevTools protocol: no driver, no package, no port.

Only what the tests need: open a page, run JavaScript in it, wait for something, take screenshots, and see every
request with its answer and every message of the console.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CHROMIUM = Path("/usr/bin/chromium")
_COMMAND_TIMEOUT_S = 60.0
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--metrics-recording-only",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    # Nothing outside this machine is reached, whatever a page asks for.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)
# There is no graphics card where tests run. WebGL in software makes all that is drawn take longer.
_PLAIN = ("--disable-gpu",)
_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
# Chromium reads commands from file descriptor 3 and writes to 4.
_ONTO_3_AND_4 = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)


@dataclass(slots=True)
class Exchange:
    """One request of a page. status 0: no answer came (failure says why)."""

    method: str
    url: str
    headers: Mapping[str, str]
    status: int = 0
    media_type: str = ""
    failure: str = ""


@dataclass(slots=True)
class Seen:
    """What went on in a page since it was opened."""

    exchanges: dict[str, Exchange] = field(default_factory=dict)
    console: list[str] = field(default_factory=list)


class Browser:
    """One Chromium with an empty profile in ``folder``; use as a context manager. webgl: OHIF wants it."""

    def __init__(self, folder: Path, *, webgl: bool = False) -> None:
        self._folder = folder
        self._flags = (*_FLAGS, *(_WEBGL if webgl else _PLAIN))
        self._replies: dict[int, dict[str, Any]] = {}
        self._pages: dict[str, Page] = {}
        self._news = threading.Condition()
        self._last_id = 0

    def __enter__(self) -> Self:
        their_in, self._out = _pipe()
        self._in, their_out = _pipe()
        self._folder.mkdir(parents=True, exist_ok=True)
        flags = [*self._flags, f"--user-data-dir={self._folder / 'profile'}", "about:blank"]
        with (self._folder / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _ONTO_3_AND_4, str(their_in), str(their_out), str(CHROMIUM), *flags],
                pass_fds=(their_in, their_out),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # Its profile is the only folder of ours that it may write to.
                env={**os.environ, "HOME": str(self._folder), "XDG_RUNTIME_DIR": str(self._folder)},
            )
        os.close(their_in)
        os.close(their_out)
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            os.write(self._out, b'{"id":0,"method":"Browser.close"}\0')
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._out)

    def open(self, url: str, *, before: str = "", width: int = 1400, height: int = 900) -> Page:
        """A page in a window of its own. before: JavaScript that runs ahead of the page's own."""
        target = self.call("Target.createTarget", {"url": "about:blank", "newWindow": True})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        page.call("Emulation.setDeviceMetricsOverride", size)
        page.call("Page.addScriptToEvaluateOnNewDocument", {"source": before})
        page.call("Page.navigate", {"url": url})
        return page

    def call(self, method: str, parameters: Mapping[str, Any] | None = None, session: str | None = None) -> Any:
        """Result of one command. Raises AssertionError with what Chromium says when it fails."""
        with self._news:
            self._last_id += 1
            number = self._last_id
            message: dict[str, Any] = {"id": number, "method": method, "params": parameters or {}}
            if session is not None:
                message["sessionId"] = session
            data = json.dumps(message).encode() + b"\0"
            while data:
                data = data[os.write(self._out, data) :]
            self._news.wait_for(lambda: number in self._replies or self._ended(), _COMMAND_TIMEOUT_S)
            assert number in self._replies, f"{method}: no answer of Chromium\n{self._log()}"
            reply = self._replies.pop(number)
        assert "error" not in reply, f"{method}: {reply['error']}"
        return reply["result"]

    def _ended(self) -> bool:
        return self._process.poll() is not None

    def _log(self) -> str:
        return (self._folder / "chromium.log").read_text(errors="replace")[-3000:]

    def _listen(self) -> None:
        rest = b""
        while piece := os.read(self._in, 1 << 16):
            *messages, rest = (rest + piece).split(b"\0")
            for message in map(json.loads, messages):
                with self._news:
                    if "id" in message:
                        self._replies[message["id"]] = message
                    elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
                        _note(page.seen, message["method"], message["params"])
                    self._news.notify_all()
        os.close(self._in)
        with self._news:
            self._news.notify_all()


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target
        self.seen = Seen()

    def call(self, method: str, parameters: Mapping[str, Any] | None = None) -> Any:
        return self._browser.call(method, parameters, self._session)

    def run(self, expression: str) -> Any:
        """Value of a JavaScript expression, promises awaited. Raises AssertionError when it throws."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str, timeout_s: float = 60.0) -> Any:
        """The first value of an expression that is true. Raises AssertionError with what is known of the page."""
        deadline = time.monotonic() + timeout_s
        while not (found := self.run(expression)):
            if time.monotonic() > deadline:
                raise AssertionError(f"never true: {expression}\n{self._state()}")
            time.sleep(0.1)
        return found

    def _state(self) -> str:
        address, text = self.run("[location.href, document.body ? document.body.innerText : '']")
        waiting = [one.url for one in list(self.seen.exchanges.values()) if not one.status and not one.failure]
        return "\n".join(
            [address, text[:3000], *self.seen.console[-40:], *(f"no answer yet: {url}" for url in waiting)]
        )

    def screenshot(self, path: Path | None = None) -> NDArray[np.uint8]:
        """What the page shows now, (rows, columns, 3); kept as PNG at ``path``."""
        data = base64.b64decode(self.call("Page.captureScreenshot", {"format": "png"})["data"])
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def click(self, x: float, y: float, count: int = 1) -> None:
        for number in range(1, count + 1):
            place = {"x": x, "y": y, "button": "left", "clickCount": number}
            self.call("Input.dispatchMouseEvent", {"type": "mousePressed", **place})
            self.call("Input.dispatchMouseEvent", {"type": "mouseReleased", **place})

    def scroll(self, x: float, y: float, delta: float) -> None:
        wheel = {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": delta}
        self.call("Input.dispatchMouseEvent", wheel)

    def choose_files(self, selector: str, paths: list[Path]) -> None:
        """Fill an ``<input type="file">`` as its dialog would."""
        found = self.call("Runtime.evaluate", {"expression": f"document.querySelector({json.dumps(selector)})"})
        files = {"files": [str(path) for path in paths], "objectId": found["result"]["objectId"]}
        self.call("DOM.setFileInputFiles", files)

    def close(self) -> None:
        self._browser.call("Target.closeTarget", {"targetId": self._target})


def _note(seen: Seen, event: str, values: Mapping[str, Any]) -> None:
    if event == "Network.requestWillBeSent":
        request = values["request"]
        seen.exchanges[values["requestId"]] = Exchange(request["method"], request["url"], request["headers"])
    elif event == "Network.responseReceived" and values["requestId"] in seen.exchanges:
        exchange = seen.exchanges[values["requestId"]]
        exchange.status, exchange.media_type = values["response"]["status"], values["response"]["mimeType"]
    elif event == "Network.loadingFailed" and values["requestId"] in seen.exchanges:
        why = values["errorText"] + (f" ({values['corsErrorStatus']})" if "corsErrorStatus" in values else "")
        seen.exchanges[values["requestId"]].failure = "" if values.get("canceled") else why
    elif event == "Runtime.consoleAPICalled":
        words = [str(word.get("value", word.get("description", ""))) for word in values["args"]]
        seen.console.append(f"{values['type']}: {' '.join(words)}"[:1000])
    elif event == "Runtime.exceptionThrown":
        details = values["exceptionDetails"]
        seen.console.append(f"exception: {details.get('exception', {}).get('description', details['text'])}"[:1000])
    elif event == "Log.entryAdded":
        entry = values["entry"]
        seen.console.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}"[:1000])


def _pipe() -> tuple[int, int]:
    """Read and write end, both well above the descriptors that they are copied onto."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 64) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
