"""The viewer of the web page as a test's hands and eyes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.clients.browser import Browser, Page

_CODES = {
    "ArrowDown": 40,
    "ArrowUp": 38,
    "ArrowLeft": 37,
    "ArrowRight": 39,
    "PageDown": 34,
    "PageUp": 33,
    "Home": 36,
    "End": 35,
    "Delete": 46,
    "Escape": 27,
}
_BUTTONS = {"left": 1, "right": 2, "middle": 4}


class Viewer:
    """A study in a tab of its own; every address goes on in the same one."""

    def __init__(
        self,
        browser: Browser,
        root_url: str,
        *,
        language: str = "en",
        theme: str = "light",
        width: int = 800,
        height: int = 560,
        touch: bool = False,
    ) -> None:
        stored = f"localStorage.setItem('pacs.language', '{language}'); localStorage.setItem('pacs.theme', '{theme}')"
        self.root_url = root_url
        self.page: Page = browser.open(
            "about:blank", before=f"if (location.protocol === 'http:') {{ {stored} }}", width=width, height=height
        )
        if touch:
            self.page.call("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
            self.page.call("Emulation.setDeviceMetricsOverride", size)
        self._place = ""

    def open(self, study_uid: str, **query: str | int) -> None:
        """Show a study and wait for its first picture."""
        self.go(study_uid, **query)
        self.wait_until_shown()

    def go(self, study_uid: str, **query: str | int) -> None:
        text = "&".join(f"{name}={value}" for name, value in query.items())
        place = f"#/view/{study_uid}" + (f"?{text}" if text else "")
        if self._place:
            # By way of a place that is none: the same address again would draw nothing.
            self.page.run("location.hash = '#/nowhere'")
            self.page.wait_for("!document.querySelector('.port')")
            self.page.run(f"location.hash = {json.dumps(place)}")
        else:
            self.page.call("Page.navigate", {"url": f"{self.root_url}/{place}"})
        self._place = place

    def wait_until_shown(self) -> None:
        ready = "!!document.querySelector('.port .stage') && !document.querySelector('.port[aria-busy]')"
        self.page.wait_for(f"{ready} && !!document.querySelector('.where')?.innerText")
        self.settle()

    def settle(self) -> None:
        """Two pictures of the screen later."""
        self.page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def text(self, selector: str) -> str:
        return str(
            self.page.run(
                f"(e => e?.innerText ?? e?.textContent ?? '')(document.querySelector({json.dumps(selector)}))"
            )
        )

    def wait_for_text(self, selector: str, wanted: str) -> None:
        self.page.wait_for(
            f"document.querySelector({json.dumps(selector)})?.innerText.includes({json.dumps(wanted)})", 15
        )

    def box(self, selector: str = ".port.active .stage") -> tuple[float, float, float, float]:
        """x, y, width, height."""
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        found = self.page.run(f"(b => [b.x, b.y, b.width, b.height])({box})")
        return tuple(found)

    @property
    def centre(self) -> tuple[float, float]:
        x, y, width, height = self.box()
        return x + width / 2, y + height / 2

    def key(self, name: str) -> None:
        parameters: dict[str, Any] = {"key": name, "windowsVirtualKeyCode": _CODES.get(name, 0)}
        if len(name) == 1:
            parameters["text"] = name
        self.page.call("Input.dispatchKeyEvent", {"type": "keyDown", **parameters})
        self.page.call("Input.dispatchKeyEvent", {"type": "keyUp", "key": name})
        self.settle()

    def choose(self, label: str, text: str) -> None:
        """Take the option of this text in the list of this name."""
        option = f"[...s.options].find(each => each.text === {json.dumps(text)}).value"
        change = f"(s => {{ s.value = {option}; s.dispatchEvent(new Event('change')) }})"
        self.page.run(f"{change}(document.querySelector('[aria-label={json.dumps(label)}]'))")
        self.settle()

    def drag(self, dx: float, dy: float, *, start: tuple[float, float] | None = None, button: str = "left") -> None:
        x, y = start or self.centre
        self._mouse("mouseMoved", x, y, "none")
        self._mouse("mousePressed", x, y, button)
        for step in (1, 2, 3, 4):
            self._mouse("mouseMoved", x + dx * step / 4, y + dy * step / 4, button)
        self._mouse("mouseReleased", x + dx, y + dy, button)
        self.settle()

    def hover(self, x: float, y: float) -> None:
        self._mouse("mouseMoved", x, y, "none")
        self.settle()

    def wheel(self, delta: float, *, ctrl: bool = False) -> None:
        x, y = self.centre
        wheel = {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": delta, "modifiers": 2 if ctrl else 0}
        self.page.call("Input.dispatchMouseEvent", wheel)
        self.settle()

    def _mouse(self, kind: str, x: float, y: float, button: str) -> None:
        held = _BUTTONS.get(button, 0) if kind != "mouseReleased" else 0
        self.page.call(
            "Input.dispatchMouseEvent",
            {"type": kind, "x": x, "y": y, "button": button, "buttons": held, "clickCount": 1},
        )

    def touch(self, *ways: list[tuple[float, float]]) -> None:
        """Fingers put down, each moved along its way of points, and lifted together."""
        for at in range(len(ways[0])):
            points = [{"x": way[at][0], "y": way[at][1], "id": finger} for finger, way in enumerate(ways)]
            self.page.call(
                "Input.dispatchTouchEvent", {"type": "touchMove" if at else "touchStart", "touchPoints": points}
            )
        self.page.call("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        self.settle()

    def stage(self, path: Path | None = None) -> NDArray[np.uint8]:
        """What the pane shows, (rows, columns, 3)."""
        x, y, width, height = (round(number) for number in self.box())
        return self.page.screenshot(path)[y : y + height, x : x + width]

    def picture(self, rows: int, columns: int) -> NDArray[np.int64]:
        """The picture at one screen pixel a pixel, texts hidden, in the middle of the pane, (rows, columns, 3)."""
        self.key("o")
        self.page.run("document.querySelectorAll('.overlay').forEach(each => each.hidden = true)")
        self.settle()
        shown = self.stage()
        self.page.run("document.querySelectorAll('.overlay').forEach(each => each.hidden = false)")
        _, _, width, height = self.box()
        left, top = (int(np.floor(free / 2 + 0.5)) for free in (width - columns, height - rows))
        return shown[top : top + rows, left : left + columns].astype(np.int64)

    def wait_for_picture(self, expected: NDArray[np.float64], most: float = 1.0) -> None:
        """Wait until the picture is this one, (rows, columns) or with RGB, at most ``most`` of 255 off anywhere."""
        if expected.ndim == 2:
            expected = np.repeat(expected[..., np.newaxis], 3, axis=2)
        self.wait_until(lambda: np.abs(self.picture(*expected.shape[:2]) - expected).max(), most)

    def wait_until(self, measure: Callable[[], float], most: float) -> None:
        deadline = time.monotonic() + 60
        while (difference := measure()) > most:
            assert time.monotonic() < deadline, f"the picture differs by {difference}\n" + "\n".join(
                self.page.seen.console[-20:]
            )
            time.sleep(0.1)

    def complaints(self) -> list[str]:
        return [line for line in self.page.seen.console if line.startswith(("error:", "exception:"))]

    def close(self) -> None:
        self.page.close()
