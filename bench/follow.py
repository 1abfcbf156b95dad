"""Whether what follows a store slows it down: ``python -m bench.follow`` writes ``bench/FOLLOWING.md``.

The same C-STOREs to servers that differ only in what they do afterwards, interleaved, after a run that does not count.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import date
from pathlib import Path

from bench.clients import storescu
from bench.corpus import Slice, Template
from bench.peers import DESTINATION, PROJECT, Destination, free_port
from bench.subjects import Pacs
from bench.warm import filled_page_cache

_RESULT = PROJECT / "bench" / "FOLLOWING.md"


class _Follower(Pacs):
    """settings: by environment name, besides the usual ones. rules: of its rules file."""

    def __init__(self, folder: Path, destination_port: int, name: str, settings: Mapping[str, str], rules: str) -> None:
        super().__init__(folder, destination_port)
        self.name = name
        self._settings = dict(settings)
        if rules:
            (folder / "rules.toml").write_text(rules)
            self._settings["RULES"] = str(folder / "rules.toml")

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self._settings}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--instances", type=int, default=200, help="of 0.53 MB, a run")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-follow-"))
    try:
        with filled_page_cache(folder):
            times = _measure(folder, arguments.runs, arguments.instances)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = _table(times, arguments.instances)
    _RESULT.write_text(text)
    print(text)


def _measure(folder: Path, runs: int, instances: int) -> dict[str, list[float]]:
    template = Template()
    with ExitStack() as running:
        destination = Destination(folder)
        running.callback(destination.stop)
        nobody = f"http://127.0.0.1:{free_port()}/fhir"
        fhir = {"SYNC_TO_FHIR_SERVER": "true", "FHIRSERVER_BASE_URL": nobody}
        forward = f'[[rule]]\nsend = "{DESTINATION}"\n'
        away = f'[[rule]]\nwebhook = "{nobody}"\n'
        servers = [
            _Follower(folder / "plain", destination.port, "nothing follows", {}, ""),
            _Follower(folder / "fhir", destination.port, "FHIR server kept up to date, which is away", fhir, ""),
            _Follower(folder / "away", destination.port, "a webhook for each instance, which is away", {}, away),
            _Follower(folder / "send", destination.port, "forwarded by C-STORE meanwhile", {}, forward),
        ]
        for server in servers:
            running.enter_context(server)
        times: dict[str, list[float]] = {server.name: [] for server in servers}
        files = folder / "files"
        files.mkdir()
        for run in range(runs + 1):
            for index in range(instances):
                slice_ = Slice(run + 1, run * instances + index + 1, index + 1)
                template.write(files / f"{index:04d}.dcm", slice_)
            for server in servers[run % len(servers) :] + servers[: run % len(servers)]:
                began = time.perf_counter()
                storescu(server, files)
                if run:
                    times[server.name].append(time.perf_counter() - began)
                time.sleep(1.0)  # what was forwarded meanwhile is not the next one's burden
        return times


def _table(times: Mapping[str, list[float]], instances: int) -> str:
    plain = statistics.median(next(iter(times.values())))
    lines = [
        "# Storing while something follows",
        "",
        f"{date.today():%Y-%m-%d}, {instances} × 0.53 MB CT by one storescu, interleaved; made by"
        " `python -m bench.follow`.",
        "",
        "| what follows | median, ms an instance | min–max | against nothing |",
        "|---|---|---|---|",
    ]
    for name, found in times.items():
        each = [1000 * seconds / instances for seconds in sorted(found)]
        median = statistics.median(found)
        lines.append(
            f"| {name} | {1000 * median / instances:.2f} | {each[0]:.2f}–{each[-1]:.2f} | {median / plain:.2f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
