"""A reader of the change feed, to be killed: python -m tests.wire.changes_reader URL FILE.

It appends each change to the file, and goes on after the last that is there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import requests


def main(url: str, file: Path) -> None:
    while True:
        try:
            with file.open("r+b") as written:
                text = written.read()
                # What was being written when the reader was killed has not been dealt with.
                whole = text[: text.rfind(b"\n") + 1]
                written.truncate(len(whole))
            lines = whole.splitlines()
            last = json.loads(lines[-1])["cursor"] if lines else 0
            answer = requests.get(f"{url}/changes", params={"since": last, "limit": 7}, timeout=60)
            answer.raise_for_status()
            page = answer.json()["changes"]
        except requests.RequestException:
            time.sleep(0.05)
            continue
        with file.open("ab", buffering=0) as writing:
            for change in page:
                line = json.dumps(change).encode() + b"\n"
                # In two parts, so that there is something to be torn.
                writing.write(line[:20])
                writing.write(line[20:])
        if not page:
            time.sleep(0.02)


if __name__ == "__main__":
    os.nice(5)
    main(sys.argv[1], Path(sys.argv[2]))
