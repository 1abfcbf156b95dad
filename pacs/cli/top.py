"""``pacs top``: what a running server does right now, from its metrics."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pacs.cli import console
from pacs.cli.status import server_url, size
from pacs.errors import OutOfResources
from pacs.metrics import BUCKETS, quantile

_NOTES = """\
Rates, latencies and errors are those of the last interval, over all processes of the server.

examples:
  pacs top                                  until Ctrl-C
  pacs top --interval 5
  pacs top --once --json                    one interval, for scripts
  pacs top --url http://pacs:8081 --token $TOKEN
"""
_TIMEOUT = urllib3.Timeout(connect=3, read=15)
Labels = frozenset[tuple[str, str]]


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "top",
        help="what the server does right now: rates, latencies, queues",
        description="Show what a running server does right now, from its metrics (GET /metrics).",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", help="root of the server, by default that of the settings")
    parser.add_argument("--token", help="API token of an administrator, where metrics are not for all")
    parser.add_argument("--interval", metavar="S", type=_seconds, default=2.0, help="seconds between two looks (2)")
    parser.add_argument("--once", action="store_true", help="look once, over one interval")
    parser.add_argument("--json", action="store_true", help="one JSON object a look")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(log_level="ERROR")
    url = f"{(arguments.url or server_url(settings)).rstrip('/')}/metrics"
    looks = _looks(url, arguments.token, arguments.interval)
    if arguments.once or arguments.json:
        for look in looks:
            if arguments.json:
                console.print_json(look)
            else:
                Console().print(_page(look, url))
            if arguments.once:
                break
        return console.OK
    with Live(Text(f"Looking at {url} …"), auto_refresh=False, screen=Console().is_terminal) as live:
        for look in looks:
            live.update(_page(look, url), refresh=True)
    return console.OK


@dataclass(frozen=True, slots=True)
class Scrape:
    """What the server said at a moment (seconds). values: by sample name and labels."""

    at: float
    values: Mapping[tuple[str, Labels], float]

    def total(self, name: str, **labels: str) -> float:
        wanted = set(labels.items())
        return sum(value for (named, its), value in self.values.items() if named == name and wanted <= its)

    def by(self, name: str, label: str) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for (named, labels), value in self.values.items():
            if named == name:
                found[dict(labels).get(label, "")] += value
        return found


def _looks(url: str, token: str | None, interval_s: float) -> Iterator[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib3.PoolManager(retries=False, timeout=_TIMEOUT) as http:
        before = _scrape(http, url, headers)
        while True:
            time.sleep(interval_s)
            now = _scrape(http, url, headers)
            yield difference(before, now)
            before = now


def _scrape(http: urllib3.PoolManager, url: str, headers: Mapping[str, str]) -> Scrape:
    """Raises OutOfResources when nobody answers, or not with metrics."""
    try:
        answer = http.request("GET", url, headers={**headers, "Accept": "text/plain"})
    except urllib3.exceptions.HTTPError as error:
        raise OutOfResources(f"no server answers at {url}: start one with `pacs serve`, or say --url") from error
    if answer.status in (401, 403):
        raise OutOfResources(f"{url} is for administrators: say --token, or set METRICS_PUBLIC")
    if answer.status != 200:
        raise OutOfResources(f"{url} answered {answer.status}")
    return parse(answer.data.decode())


def parse(text: str, at: float | None = None) -> Scrape:
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    values = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    return Scrape(time.monotonic() if at is None else at, values)


def difference(before: Scrape, now: Scrape) -> dict[str, Any]:
    """What has happened between two looks, and how things are."""
    seconds = max(now.at - before.at, 1e-6)

    def grown(name: str, **labels: str) -> float:
        # A server that was started again counts from 0.
        return max(0.0, now.total(name, **labels) - before.total(name, **labels))

    services = []
    for service in sorted(now.by("pacs_requests_total", "service")):
        requests = grown("pacs_requests_total", service=service)
        durations = _durations(before, now, service)
        median, slow = quantile(durations, 0.5), quantile(durations, 0.95)
        services.append(
            {
                "service": service,
                "requestsPerSecond": requests / seconds,
                "failuresPerSecond": grown("pacs_requests_total", service=service, outcome="failure") / seconds,
                "medianMs": None if median is None else median * 1000,
                "p95Ms": None if slow is None else slow * 1000,
                "receivedBytesPerSecond": grown("pacs_received_bytes_total", service=service) / seconds,
                "sentBytesPerSecond": grown("pacs_sent_bytes_total", service=service) / seconds,
                "requests": now.total("pacs_requests_total", service=service),
            }
        )
    return {
        "seconds": seconds,
        "isUp": now.total("pacs_up") == 1,
        "services": services,
        "associations": now.total("pacs_open_associations"),
        "httpRequests": now.total("pacs_open_requests"),
        "indexWritesWaiting": now.total("pacs_index_writes_waiting"),
        "pixelCalls": now.by("pacs_pixel_calls", "state"),
        "jobs": now.by("pacs_jobs", "state"),
        "cpuPercent": grown("pacs_process_cpu_seconds_total") / seconds * 100,
        "memoryBytes": now.total("pacs_process_resident_memory_bytes"),
        "diskFreeBytes": now.total("pacs_disk_free_bytes"),
        "stored": now.by("pacs_stored", "level"),
    }


def _durations(before: Scrape, now: Scrape, service: str) -> list[float]:
    """How many requests fell in each bucket between two looks."""
    name, bounds = "pacs_request_duration_seconds_bucket", [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]

    def cumulative(scrape: Scrape) -> list[float]:
        found: dict[float, float] = defaultdict(float)
        for (named, labels), value in scrape.values.items():
            if named == name and ("service", service) in labels:
                found[float(dict(labels)["le"])] += value
        return [found[float(bound)] for bound in bounds]

    grown = [later - earlier for earlier, later in zip(cumulative(before), cumulative(now), strict=True)]
    return [max(0.0, upper - lower) for lower, upper in zip([0.0, *grown], grown, strict=False)]


def _page(look: Mapping[str, Any], url: str) -> Group:
    stored, pixels, jobs = look["stored"], look["pixelCalls"], look["jobs"]
    said = [
        f"{url}   {'up' if look['isUp'] else 'THE INDEX CANNOT BE READ'}",
        f"cpu {look['cpuPercent']:.0f} %   memory {size(look['memoryBytes'])}   "
        f"disk {size(look['diskFreeBytes'])} free",
        f"associations {look['associations']:.0f}   http {look['httpRequests']:.0f}   "
        f"index writes waiting {look['indexWritesWaiting']:.0f}   "
        f"pixel calls {pixels.get('running', 0):.0f} (+{pixels.get('waiting', 0):.0f} waiting)   "
        f"jobs {jobs.get('waiting', 0):.0f} waiting, {jobs.get('dead', 0):.0f} given up",
        f"holds {stored.get('studies', 0):,.0f} studies, {stored.get('instances', 0):,.0f} instances",
    ]
    table = Table("Service", box=None, pad_edge=False, header_style="bold")
    for name in ("req/s", "fail/s", "p50 ms", "p95 ms", "in/s", "out/s", "total"):
        table.add_column(name, justify="right")
    for one in sorted(look["services"], key=lambda one: -one["requestsPerSecond"]):
        table.add_row(
            one["service"],
            f"{one['requestsPerSecond']:,.1f}",
            f"{one['failuresPerSecond']:,.1f}",
            *("" if one[name] is None else f"{one[name]:,.1f}" for name in ("medianMs", "p95Ms")),
            size(one["receivedBytesPerSecond"]),
            size(one["sentBytesPerSecond"]),
            f"{one['requests']:,.0f}",
        )
    return Group(*(Text(line) for line in said), Text(), table)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError("expected seconds, 0.1 to 3600")
    return value
