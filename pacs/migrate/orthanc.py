"""Orthanc, by its REST interface: study by study, then what came in meanwhile by its list of changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from pacs.dicom.model import Caller
from pacs.errors import Invalid, NotFound, TooLarge
from pacs.migrate.intake import Intake
from pacs.migrate.remote import Remote, Unanswered, for_each
from pacs.services.spool import Spool
from pacs.services.store import Stored

CALLER = Caller("pacs migrate orthanc", "", "cli")
_PAGE = 500
_GROUP = 16  # instances a commit
_PIECE_BYTES = 1 << 20


class _Instance(NamedTuple):
    name: str  # Orthanc's own
    sop_uid: str
    size_bytes: int


async def count(remote: Remote) -> int:
    """How many instances it has. Raises Invalid when it is not an Orthanc."""
    try:
        system = await remote.json("/system")
        statistics = await remote.json("/statistics")
        if not isinstance(system, dict) or "Version" not in system:
            raise Unanswered("no version")
        return int(statistics["CountInstances"])
    except (NotFound, Unanswered, KeyError, TypeError, ValueError) as error:
        raise Invalid(f"{remote.url} does not answer as an Orthanc does: {error}", "--url") from error


async def migrate(remote: Remote, intake: Intake, *, parallel: int) -> None:
    """Take over everything that is there, and what comes in while we work.

    Raises OutOfResources when the archive cannot take more, or Orthanc cannot be reached any more.
    """
    since = await _last_change(remote)

    async def fetch(group: Sequence[_Instance]) -> None:
        await _fetch(remote, intake, group)

    await for_each(_groups(remote, intake), fetch, parallel)
    await for_each(_arrived(remote, intake, since), fetch, parallel)


async def _groups(remote: Remote, intake: Intake) -> AsyncIterator[Sequence[_Instance]]:
    """What is not here yet. A list of names is read at once: a page of it would move when a study goes."""
    for study in await remote.json("/studies") or []:
        try:
            found = await remote.json(f"/studies/{study}/instances")
            study_uid = str((await remote.json(f"/studies/{study}"))["MainDicomTags"].get("StudyInstanceUID", ""))
        except NotFound:
            continue
        intake.summary.studies += 1
        async for group in _missing(intake, study_uid, [_instance(each) for each in found]):
            yield group


async def _missing(
    intake: Intake, study_uid: str, instances: Sequence[_Instance]
) -> AsyncIterator[Sequence[_Instance]]:
    known = await intake.known(study_uid)
    intake.summary.instances += len(instances)
    # The same size as well: another content under the same UID is the store's to judge, and to report.
    wanted = [
        each
        for each in instances
        if each.sop_uid not in known or known[each.sop_uid].blob.size_bytes != each.size_bytes
    ]
    intake.skip(len(instances) - len(wanted))
    if intake.dry_run:
        intake.want(len(wanted))
        return
    for start in range(0, len(wanted), _GROUP):
        yield wanted[start : start + _GROUP]


async def _arrived(remote: Remote, intake: Intake, since: int) -> AsyncIterator[Sequence[_Instance]]:
    """Instances that came in since a change, until there are no more."""
    while True:
        page = await remote.json("/changes", {"since": str(since), "limit": str(_PAGE)})
        new = [change["ID"] for change in page["Changes"] if change["ChangeType"] == "NewInstance"]
        for name in dict.fromkeys(new):
            try:
                instance = _instance(await remote.json(f"/instances/{name}"))
                tags = await remote.json(f"/instances/{name}/simplified-tags")
            except NotFound:
                continue
            async for group in _missing(intake, str(tags.get("StudyInstanceUID", "")), [instance]):
                yield group
        if page["Done"] or page["Last"] <= since:
            return
        since = page["Last"]


async def _last_change(remote: Remote) -> int:
    return int((await remote.json("/changes", {"last": ""}))["Last"])


async def _fetch(remote: Remote, intake: Intake, instances: Sequence[_Instance]) -> None:
    """One group into the archive, in one commit."""
    spools: list[tuple[str, Spool]] = []
    with ExitStack() as opened:
        for instance in instances:
            try:
                spool = await remote.attempt(partial(_spooled, remote, intake, instance.name))
            except NotFound:
                intake.gone()
            except (Unanswered, TooLarge) as error:
                intake.fail(instance.sop_uid, str(error))
            else:
                opened.callback(spool.discard)
                spools.append((instance.sop_uid, spool))
        results = await intake.store([spool for _, spool in spools])
    for (sop_uid, _), result in zip(spools, results, strict=True):
        if isinstance(result, Stored):
            intake.count(result)
        else:
            intake.fail(sop_uid, str(result))


async def _spooled(remote: Remote, intake: Intake, name: str) -> Spool:
    spool = intake.spool()
    try:
        async with remote.get(f"/instances/{name}/file") as answer:
            async for piece in answer.content.iter_chunked(_PIECE_BYTES):
                spool.write(piece)
    except BaseException:
        spool.discard()
        raise
    spool.finish()
    return spool


def _instance(found: Any) -> _Instance:
    return _Instance(
        str(found["ID"]), str(found["MainDicomTags"].get("SOPInstanceUID", "")), int(found.get("FileSize", -1))
    )
