"""How long a new user waits for the first image: ``python -m bench.first_image [REPOSITORY]``.

A fresh clone, an empty home folder, and nothing but what the README says first: its command is run, the address that
it names is opened in Chromium, and the eye of a study is clicked. Python packages come from the registry that pip is
set up for. Ports are free ones, since those of the README may be in use here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts.local_cluster.process import free_port
from tests.clients import walk_desk
from tests.server import PROJECT

_TIMEOUT_S = 600
_RESULT = PROJECT / "tests" / "artefacts" / "first-image.json"


def main() -> None:
    source = sys.argv[1] if len(sys.argv) > 1 else str(PROJECT)
    with tempfile.TemporaryDirectory() as name:
        figures = _walk(source, Path(name))
    _RESULT.parent.mkdir(parents=True, exist_ok=True)
    _RESULT.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


def _walk(source: str, folder: Path) -> dict[str, float]:
    begin = time.monotonic()
    clone, home = folder / "archive", folder / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "-q", source, str(clone)], check=True)
    cloned = time.monotonic()
    readme = (clone / "README.md").read_text()
    first = re.search(r"```sh\n([^#\n]+)", readme)
    address = re.search(r"\*\*Open <(http://[^>]+)>", readme)
    assert first, "the README does not begin with a command"
    assert address, "the README names no address to open"
    http, dimse = free_port(), free_port()
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment = {
        **kept,
        "HOME": str(home),
        "SERVER_PORT": str(http),
        "DIMSE_PORT": str(dimse),
    }
    log = folder / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {first[1].strip()}"],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, log)
        ready = time.monotonic()
        url = re.sub(r":\d+/", f":{http}/", address[1])
        walk_desk.ARTEFACTS.mkdir(parents=True, exist_ok=True)
        seen = walk_desk.run("first_image.cjs", {"url": url, "artefacts": str(walk_desk.ARTEFACTS)})
        seen_at = time.monotonic()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    # Thumbnails of examples that are no pictures are refused, and their modality is shown in their place.
    complaints = [each for each in seen["complaints"] if "status of 406" not in each]
    assert not complaints, complaints
    return {
        "clone, s": round(cloned - begin, 1),
        "set up, import and start, s": round(ready - cloned, 1),
        "browser to first image, s": round(seen_at - ready, 1),
        "altogether, s": round(seen_at - begin, 1),
    }


def _wait(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while b"Stop with" not in log.read_bytes():
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
        time.sleep(0.2)


if __name__ == "__main__":
    main()
