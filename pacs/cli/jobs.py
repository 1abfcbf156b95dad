"""``pacs jobs``: follow-up work that waits, runs, or was given up."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from pacs.cli import console

_NOTES = """\
A server need not be stopped. A job that was given up stays until it is retried or discarded. The exit code is 1
when there are jobs that were given up, so that a monitor can ask.

examples:
  pacs jobs                          what there is
  pacs jobs --state dead             those that were given up, and why
  pacs jobs --retry all              try all of those again
  pacs jobs --discard 3f9c01d2a45b6e78
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "jobs",
        help="follow-up work: forwarding, webhooks, FHIR",
        description="Show follow-up jobs, try them again, or give them up.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--state", choices=("waiting", "running", "dead"), help="only those; dead: given up")
    parser.add_argument("--kind", help="only those of a kind, such as send")
    parser.add_argument("--limit", metavar="N", type=console.positive, default=20, help="how many to show (20)")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--retry", metavar="ID", help="try a job now; all: all that were given up")
    action.add_argument("--discard", metavar="ID", help="remove a job; all: all that were given up")
    console.add_common_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    # Here, not above: other commands start faster without the servers.
    from pacs.archive import Archive
    from pacs.index.work import JobState, Work

    def chosen(work: Work, which: str) -> list[str]:
        if which != "all":
            return [which]
        ids: list[str] = []
        while page := work.jobs(kind=arguments.kind, state=JobState.DEAD, after=ids[-1] if ids else "", limit=_PAGE):
            ids += [job.job_id for job in page]
        return ids

    with Archive.open(settings) as archive:
        work = archive.index.work
        if arguments.retry or arguments.discard:
            ids = chosen(work, arguments.retry or arguments.discard)
            done = work.retry_jobs(ids, datetime.now(UTC)) if arguments.retry else work.discard_jobs(ids)
            if arguments.json:
                console.print_json({"jobs": done})
            else:
                print(f"{'Due now' if arguments.retry else 'Removed'}: {console.plural(done, 'job')}.")
            return console.OK if done == len(ids) else console.FAILED
        counts = work.count_jobs()
        state = JobState[arguments.state.upper()] if arguments.state else None
        found = work.jobs(kind=arguments.kind, state=state, limit=arguments.limit)
    if arguments.json:
        totals = [{"kind": kind, "state": at.name.lower(), "jobs": n} for (kind, at), n in sorted(counts.items())]
        console.print_json({"counts": totals, "jobs": [job.as_json() for job in found]})
    else:
        for (kind, at), number in sorted(counts.items()):
            print(f"{kind:<18} {at.name.lower():<8} {number:>9,}")
        if not counts:
            print("There are no jobs.")
        for job in found:
            when = f"due {job.due:%Y-%m-%d %H:%M:%S}Z" if job.state is JobState.WAITING else job.state.name.lower()
            print(f"\n{job.job_id}  {job.kind}  {when}  attempts {job.attempts}\n  {job.key}")
            if job.error:
                print(f"  {job.error}")
    return console.FAILED if any(at is JobState.DEAD for _, at in counts) else console.OK


_PAGE = 500
