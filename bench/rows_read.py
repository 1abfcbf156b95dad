"""Rows that search and fetch."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable

from bench.clients import Answer, Connection, all_at_once, asked
from bench.material import Counts, Material, Series
from bench.peers import DESTINATION, Peer
from bench.rows import Row
from bench.rows_store import need
from bench.subjects import Orthanc

_JSON = "application/dicom+json"
_OCTETS = 'multipart/related; type="application/octet-stream"'
_FRAME_BYTES = 512 * 512 * 2
_IMAGE_KEYS = ("SOPInstanceUID", "InstanceNumber", "SOPClassUID")
_AT_ONCE = 16
_SEARCHES = 20  # requests that one figure is the mean of
_DOWNLOADS = 5
_PAGE = 100


def early_rows(counts: Counts) -> list[Row]:
    return [
        Row(
            "qido-few",
            f"QIDO-RS studies, first page, {counts.few} in the archive",
            run=lambda peer, _: _search(peer, f"/dicom-web/studies?limit={_PAGE}", counts.few),
            bar=5,
            repeats=_SEARCHES,
            is_early=True,
            is_web=True,
        )
    ]


def rows(counts: Counts) -> list[Row]:
    some, many = counts.series, counts.background
    long = f"{counts.long:,}"
    frames, pictures = _shares(counts)
    keyless = (("dcmqrscp", "answers without SOP Class UID"),)
    return [
        _web("metadata1", f"WADO-RS series metadata, {some} slices, first after the store", _metadata, bar=10),
        _web("metadata2", f"WADO-RS series metadata, {some} slices, repeated", _metadata_again, bar=2, repeats=5),
        _web("qido-instances", f"QIDO-RS {some} instances of a series", _instances, bar=10, repeats=5),
        _web("qido-uid", "QIDO-RS one study by its UID", _by_uid, repeats=_SEARCHES),
        _web("qido-page", f"QIDO-RS studies, first page of {_PAGE}, over {many:,}", _page, bar=5, repeats=_SEARCHES),
        _web("qido-name", f"QIDO-RS studies by name*, {_PAGE} of {many:,}", _name, bar=5, repeats=_SEARCHES),
        _web(
            "wado",
            f"WADO-RS study, {some} slices, stored syntax",
            _study,
            bar=1.2,
            repeats=_DOWNLOADS,
            amount=some,
            megabytes=some * _FRAME_BYTES / 1e6,
        ),
        _web("frame", "WADO-RS one frame of 0.5 MB, stored syntax", _frame, "ct", bar=2, repeats=pictures),
        _web("frame-again", "WADO-RS one frame, asked for again", _frame, "ct", repeats=pictures),
        _web("rendered", "WADO-RS rendered, 512 × 512 JPEG", _rendered, "ct", bar=2, repeats=pictures),
        _web("thumbnail", "WADO-RS thumbnail (Orthanc: its preview)", _thumbnail, "ct", bar=2, repeats=pictures),
        _web("frames16", f"{frames} frames of {frames} instances, {_AT_ONCE} at once", _frames, "ct", bar=3, repeats=3),
        _web("frames16-again", f"{frames} frames, {_AT_ONCE} at once, asked for again", _frames, "ct", repeats=3),
        _dimse("find", f"C-FIND of {some} images (findscu)", _find, "series", bar=1.3, amount=some, lacking=keyless),
        _dimse(
            "find-long",
            f"C-FIND of {long} images (findscu)",
            _find_long,
            "long",
            bar=1.3,
            amount=counts.long,
            lacking=keyless,
        ),
        _dimse(
            "find-few-keys",
            f"C-FIND of {long} images without SOP Class UID",
            _find_few_keys,
            "long",
            amount=counts.long,
        ),
        _dimse("get", f"C-GET of {some} CT (getscu)", _get, "series", bar=1.2, amount=some),
        _dimse("move", f"C-MOVE of {counts.ct} CT (movescu, storescp)", _move, "ct", bar=1.2, amount=counts.ct),
    ]


def _web(
    key: str,
    title: str,
    run: Callable[[Peer, Material], float],
    series: str = "series",
    *,
    bar: float = 0.0,
    repeats: int = 1,
    amount: int = 0,
    megabytes: float = 0.0,
) -> Row:
    return Row(
        key,
        title,
        run=run,
        bar=bar,
        before=lambda peer, material: need(peer, getattr(material, series)),
        repeats=repeats,
        amount=amount,
        megabytes=megabytes,
        is_web=True,
    )


def _dimse(
    key: str,
    title: str,
    run: Callable[[Peer, Material], float],
    series: str,
    *,
    amount: int,
    bar: float = 0.0,
    lacking: tuple[tuple[str, str], ...] = (),
) -> Row:
    return Row(
        key,
        title,
        run=run,
        bar=bar,
        before=lambda peer, material: need(peer, getattr(material, series)),
        amount=amount,
        megabytes=0.0 if key.startswith("find") else amount * _FRAME_BYTES / 1e6,
        lacking=lacking,
    )


def _metadata(peer: Peer, material: Material) -> float:
    return _search(peer, f"{material.series.path}/metadata", material.counts.series, repeats=1)


def _metadata_again(peer: Peer, material: Material) -> float:
    return _search(peer, f"{material.series.path}/metadata", material.counts.series, repeats=5)


def _instances(peer: Peer, material: Material) -> float:
    return _search(peer, f"{material.series.path}/instances", material.counts.series, repeats=5)


def _by_uid(peer: Peer, material: Material) -> float:
    return _search(peer, f"/dicom-web/studies?StudyInstanceUID={material.series.study_uid}", 1)


def _page(peer: Peer, material: Material) -> float:
    return _search(peer, f"/dicom-web/studies?limit={_PAGE}", _PAGE)


def _name(peer: Peer, material: Material) -> float:
    return _search(peer, f"/dicom-web/studies?PatientName=Back01*&limit={_PAGE}", _PAGE)


def _search(peer: Peer, path: str, count: int, repeats: int = _SEARCHES) -> float:
    with Connection(peer.http_port) as connection:
        began = time.perf_counter()
        answers = [connection.ask("GET", path, _JSON) for _ in range(repeats)]
        seconds = (time.perf_counter() - began) / repeats
    for answer in answers:
        assert answer.status == 200, f"{path}: {answer.status} {answer.body[:200]!r}"
    found = len(json.loads(answers[-1].body))
    assert found == count, f"{path}: {found} rows instead of {count}"
    assert len({len(answer.body) for answer in answers}) == 1, f"{path}: answers differ in length"
    return seconds


def _study(peer: Peer, material: Material) -> float:
    path = f"/dicom-web/studies/{material.series.study_uid}"
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    total = 0.0
    for _ in range(_DOWNLOADS):
        # A connection each: Orthanc closes it, which is how one sees the end of this answer.
        with Connection(peer.http_port) as connection:
            began = time.perf_counter()
            answer = connection.ask("GET", path, accept, is_kept=False)
            total += time.perf_counter() - began
        assert answer.status == 200, f"{path}: {answer.status}"
        _check_multipart(path, answer, material.counts.series * _FRAME_BYTES)
    return total / _DOWNLOADS


def _check_multipart(path: str, answer: Answer, least_bytes: int) -> None:
    assert answer.size > least_bytes, f"{path}: {answer.size} bytes"
    assert answer.tail.rstrip().endswith(b"--"), f"{path}: no last boundary, but {answer.tail!r}"


def _shares(counts: Counts) -> tuple[int, int]:
    """How many frames at once, and how many pictures one after the other: of instances that nobody has read before.

    Three turns of frames and three rows of pictures share the CT series, which was stored some time ago, so that the
    first request for each comes from no cache of the archive; what caches bring, the rows "again" show.
    """
    return min(100, counts.ct // 4), min(25, counts.ct // 16)


def _paths(material: Material, first: int, count: int) -> list[str]:
    slices = material.ct.slices[first : first + count]
    assert len(slices) == count, "too few instances"
    return [f"{material.ct.path}/instances/{slice_.sop_uid}" for slice_ in slices]


def _pictures(material: Material, turn: int) -> tuple[int, int]:
    frames, pictures = _shares(material.counts)
    return 3 * frames + turn * pictures, pictures


def _frame(peer: Peer, material: Material) -> float:
    paths = [f"{path}/frames/1" for path in _paths(material, *_pictures(material, 0))]
    return _each(peer, paths, _OCTETS, _FRAME_BYTES)


def _rendered(peer: Peer, material: Material) -> float:
    paths = [f"{path}/rendered" for path in _paths(material, *_pictures(material, 1))]
    return _each(peer, paths, "image/jpeg", 1000)


def _thumbnail(peer: Peer, material: Material) -> float:
    """Orthanc's plugin of this age has no thumbnails; its preview is a picture of the full size."""
    first, count = _pictures(material, 2)
    if isinstance(peer, Orthanc):
        slices = material.ct.slices[first : first + count]
        paths = [f"/instances/{_orthanc_id(material.ct, slice_.sop_uid)}/preview" for slice_ in slices]
    else:
        paths = [f"{path}/thumbnail" for path in _paths(material, first, count)]
    return _each(peer, paths, "image/jpeg", 500)


def _frames(peer: Peer, material: Material) -> float:
    count, _ = _shares(material.counts)
    total = 0.0
    for turn in range(3):
        paths = [f"{path}/frames/1" for path in _paths(material, turn * count, count)]
        seconds, answers = all_at_once(peer.http_port, paths, _OCTETS, _AT_ONCE)
        total += seconds
        for answer in answers:
            assert answer.status == 200, f"a frame: {answer.status}"
            _check_multipart("a frame", answer, _FRAME_BYTES)
    return total / 3


def _orthanc_id(series: Series, sop_uid: str) -> str:
    parts = (series.slices[0].patient_id, series.study_uid, series.series_uid, sop_uid)
    digest = hashlib.sha1("|".join(parts).encode(), usedforsecurity=False).hexdigest()
    return "-".join(digest[start : start + 8] for start in range(0, 40, 8))


def _each(peer: Peer, paths: list[str], accept: str, least_bytes: int) -> float:
    with Connection(peer.http_port) as connection:
        began = time.perf_counter()
        answers = [connection.ask("GET", path, accept, is_kept=False) for path in paths]
        seconds = (time.perf_counter() - began) / len(paths)
    for path, answer in zip(paths, answers, strict=True):
        assert answer.status == 200, f"{path}: {answer.status}"
        assert answer.size >= least_bytes, f"{path}: {answer.size} bytes"
    return seconds


def _find(peer: Peer, material: Material) -> float:
    return _find_images(peer, material.series, *_IMAGE_KEYS)


def _find_long(peer: Peer, material: Material) -> float:
    return _find_images(peer, material.long, *_IMAGE_KEYS)


def _find_few_keys(peer: Peer, material: Material) -> float:
    """What Orthanc of this age has in its index; for any other key it reads every file."""
    return _find_images(peer, material.long, *_IMAGE_KEYS[:2])


def _find_images(peer: Peer, series: Series, *wanted: str) -> float:
    seconds, output = asked("findscu", peer, *_keys("IMAGE", series, *wanted))
    found = output.count("Find Response:")
    assert found == len(series.slices), f"{found} responses: {output[-500:]}"
    assert output.count("(0020,0013) IS [") >= found, "responses without Instance Number"
    if "SOPClassUID" in wanted:
        assert output.count("(0008,0016) UI =CTImageStorage") >= found, "responses without SOP Class UID"
    return seconds


def _get(peer: Peer, material: Material) -> float:
    seconds, output = asked("getscu", peer, "--ignore", "+xe", *_keys("SERIES", material.series))
    received = output.count("Received C-STORE Request")
    assert received == len(material.series.slices), f"{received} received: {output[-800:]}"
    assert "Received C-GET Response (Success)" in output, output[-800:]
    return seconds


def _move(peer: Peer, material: Material) -> float:
    seconds, output = asked("movescu", peer, "-aem", DESTINATION, *_keys("SERIES", material.ct))
    assert "Received Final Move Response (Success)" in output, output[-500:]
    # One pending response a slice, but for the last.
    pending = output.count("(Pending)")
    assert pending >= len(material.ct.slices) - 1, f"{pending} pending responses"
    return seconds


def _keys(level: str, series: Series, *wanted: str) -> list[str]:
    keys = [
        f"QueryRetrieveLevel={level}",
        f"StudyInstanceUID={series.study_uid}",
        f"SeriesInstanceUID={series.series_uid}",
        *wanted,
    ]
    return [argument for key in keys for argument in ("-k", key)]
