"""The whole web page with Playwright and axe: every view in both languages, light and dark, wide and narrow.

Pictures stay in tests/artefacts/walk, to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import walk_desk
from tests.clients.needs import needs
from tests.clients.walk_desk import Desk
from tests.wire.receivers import eventually

pytestmark = [
    needs("chromium", "node", "npm", "dcmtk", npm_packages=["playwright-core", "axe-core"]),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with walk_desk.desk(tmp_path_factory.mktemp("walk")) as running:
        yield running


def views(desk: Desk) -> list[dict[str, str]]:
    study = f"/studies/{desk.study}"
    series = f"{study}/series/{desk.series}"
    return [
        {"name": "studies", "at": "/studies", "ready": ".space .row .name"},
        {"name": "studies-selected", "at": "/studies", "press": ".space .row input"},
        {"name": "studies-filters", "at": "/studies?name=doe", "ready": "#filters"},
        {
            "name": "studies-nothing",
            "at": "/studies?q=nobodyhasthisname",
            "ready": ".notices",
        },
        {"name": "study", "at": study, "ready": ".cards .series"},
        {"name": "study-label", "at": study, "press": ".add-label"},
        {"name": "study-send", "at": study, "press": ".actions button >> nth=1"},
        {"name": "study-missing", "at": "/studies/1.2.3.999", "ready": "[role=alert]"},
        {"name": "series", "at": series, "ready": ".instance .number a"},
        {
            "name": "instance",
            "at": f"{series}/instances/{desk.instance}",
            "ready": "h1",
        },
        {"name": "patient", "at": "/patients/P0000", "ready": "h1"},
        {"name": "viewer", "at": f"/view/{desk.study}", "ready": ".viewbar"},
        {"name": "upload", "at": "/upload", "ready": "h1"},
        {"name": "worklist", "at": "/worklist", "ready": "h1"},
        {"name": "sends", "at": "/sends", "ready": "h1"},
        {"name": "trash", "at": "/trash", "ready": "h1"},
        {"name": "peers", "at": "/peers", "ready": "table"},
        {"name": "jobs", "at": "/jobs", "ready": ".tiles dd"},
        {"name": "system", "at": "/system", "ready": "h1"},
        {"name": "system-log", "at": "/system?tab=log", "ready": "h1"},
        {"name": "system-settings", "at": "/system?tab=settings", "ready": ".setting"},
        {"name": "accounts", "at": "/accounts", "ready": "table"},
        {"name": "me", "at": "/me", "ready": "form"},
        {"name": "help", "at": "/help", "ready": "h1"},
        {"name": "nowhere", "at": "/nowhere", "ready": "h1"},
    ]


# Each language with each theme and each size, each theme with each size.
@pytest.mark.parametrize(
    ("language", "theme", "size"),
    [
        ("en", "light", "desktop"),
        ("en", "dark", "phone"),
        ("zh-Hant", "dark", "desktop"),
        ("zh-Hant", "light", "phone"),
    ],
)
def test_every_view_is_whole_readable_and_without_serious_issues_of_accessibility(
    desk: Desk, language: str, theme: str, size: str
) -> None:
    desk.call("DELETE", "studies/1.2.70.20")
    look = {"language": language, "theme": theme, "size": size}
    wrong = walk_desk.run("views.cjs", {**desk.plan, "looks": [look], "views": views(desk)})
    assert wrong == {}, "\n".join(f"{view}: {line}" for view, lines in wrong.items() for line in lines)


@pytest.mark.parametrize(
    ("language", "theme", "size"),
    [("en", "light", "desktop"), ("zh-Hant", "dark", "phone")],
)
def test_all_that_people_do_is_done_in_the_page(
    desk: Desk, tmp_path: Path, language: str, theme: str, size: str
) -> None:
    root = f"1.2.7{len(language)}"
    note = tmp_path / "readme.txt"
    note.write_text("Not an image, but a text.")
    before = len(desk.receiver.received())

    def received(count: int) -> None:
        eventually(lambda: len(desk.receiver.received()) == before + count, "all that was sent")

    plan = {
        **desk.plan,
        "language": language,
        "theme": theme,
        "size": size,
        "root": root,
        "fifty": walk_desk.fifty(tmp_path / "scans", root),
        "noDicom": str(note),
        "studies": [f"{root}.0", f"{root}.1"],
        "study": desk.study,
        "sent": 25,
    }
    answers = {
        "received": received,
        "stop": desk.server.stop,
        "start": desk.server.start,
    }
    found = walk_desk.run("acts.cjs", plan, answers)
    assert found["complaints"] == []
    assert len(found["done"]) == 20


def test_everything_is_reached_by_keyboard_and_the_focus_is_seen(desk: Desk) -> None:
    study = f"/studies/{desk.study}"
    dialogs = [
        {"name": "label", "at": study, "opener": ".add-label"},
        {"name": "send", "at": study, "opener": ".actions button >> nth=1"},
        {"name": "order", "at": "/worklist", "opener": ".head button.primary"},
        {"name": "account", "at": "/accounts", "opener": ".head button.primary"},
        {"name": "token", "at": "/me", "opener": "section .head button"},
        {
            "name": "discard",
            "at": "/jobs?state=dead",
            "opener": "tbody .actions button >> nth=1",
        },
    ]
    found = walk_desk.run("keys.cjs", {**desk.plan, "views": views(desk), "dialogs": dialogs})
    assert found["wrong"] == [], "\n".join(found["wrong"])
    assert found["reached"] > 300
