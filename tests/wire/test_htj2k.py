"""HTJ2K made of stored images: by ranges, by setting, ahead, and always beside the stored file."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import openjpeg
import pydicom
import pytest
import requests
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from bench.corpus import Slice, Template
from pacs.dicom import transfer_syntax as syntaxes
from tests.server import Server
from tests.wire.clients import AS_STORED, EXPLICIT_LITTLE, split_multipart, stow

RPCL = syntaxes.HTJ2K_LOSSLESS_RPCL
CODESTREAM = f"image/jphc; transfer-syntax={RPCL}"
# What viewers built on cornerstone ask for: whatever the server likes best.
VIEWER = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'


def ct() -> bytes:
    return Template().stamp(Slice(1, 1, 1))


def example(name: str) -> bytes:
    return Path(str(get_testdata_file(name, download=False))).read_bytes()


def path_of(file: bytes) -> str:
    data_set = pydicom.dcmread(BytesIO(file))
    study, series = data_set.StudyInstanceUID, data_set.SeriesInstanceUID
    return f"/studies/{study}/series/{series}/instances/{data_set.SOPInstanceUID}"


def pixels_of(file: bytes) -> NDArray[np.int16]:
    return pydicom.dcmread(BytesIO(file)).pixel_array


def get(server: Server, path: str, accept: str, **headers: str) -> requests.Response:
    return requests.get(server.dicomweb_url + path, headers={"Accept": accept, **headers}, timeout=60)


def part_bodies(response: requests.Response) -> list[bytes]:
    assert response.status_code == 200, response.text
    return split_multipart(response.headers["Content-Type"], response.content)


def kept(server: Server) -> list[Path]:
    """Files of frames that were made."""
    return [path for path in (server.data / "frames").rglob("*") if RPCL in path.name]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("htj2k")) as server:
        assert stow(server, [ct(), example("examples_rgb_color.dcm")]).status_code == 200
        yield server


@pytest.fixture(scope="module")
def preferring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("preferring"), {"FRAMES_HTJ2K": "preferred"}) as server:
        yield server


def test_a_client_that_names_it_gets_a_lossless_codestream_in_resolution_order(server: Server) -> None:
    response = get(server, f"{path_of(ct())}/frames/1", CODESTREAM)
    assert (response.status_code, response.headers["Content-Type"]) == (200, CODESTREAM)
    assert response.headers["Accept-Ranges"] == "bytes"
    cod = response.content.index(b"\xff\x52")
    assert response.content[cod + 5] == 2  # RPCL (ISO/IEC 15444-1 A.6.1)
    assert b"\xff\x55" in response.content[: response.content.index(b"\xff\x90")]  # TLM in the main header
    for decode in (openjpeg.decode, imagecodecs.htj2k_decode):
        np.testing.assert_array_equal(decode(response.content), pixels_of(ct()))


def test_a_color_image_is_kept_exactly_and_both_names_of_the_type_work(server: Server) -> None:
    file = example("examples_rgb_color.dcm")
    for uid in (syntaxes.HTJ2K_LOSSLESS, RPCL):
        response = get(server, f"{path_of(file)}/frames/1", f"image/jphc; transfer-syntax={uid}")
        assert response.status_code == 200
        np.testing.assert_array_equal(openjpeg.decode(response.content), pixels_of(file))


@pytest.mark.parametrize(("part", "skipped"), [(0.04, 3), (0.1, 2), (0.4, 1)])
def test_the_first_bytes_are_a_smaller_picture(server: Server, part: float, skipped: int) -> None:
    path = f"{path_of(ct())}/frames/1"
    whole = get(server, path, CODESTREAM).content
    last = int(len(whole) * part)
    response = get(server, path, CODESTREAM, Range=f"bytes=0-{last}")
    assert response.status_code == 206
    assert response.headers["Content-Range"] == f"bytes 0-{last}/{len(whole)}"
    assert response.content == whole[: last + 1]
    picture = imagecodecs.htj2k_decode(response.content, skipres=skipped, resilient=True)
    np.testing.assert_array_equal(picture, imagecodecs.htj2k_decode(whole, skipres=skipped))
    smaller = reduced(pixels_of(ct()), 1 << skipped)
    assert picture.shape == smaller.shape
    # Of values over a range of 1,600; noise of a deviation of 25 is smoothed a little differently by the two filters.
    assert np.abs(picture - smaller).mean() < 12
    assert np.corrcoef(picture.ravel(), smaller.ravel())[0, 1] > 0.995


def reduced(pixels: NDArray[np.int16], step: int) -> NDArray[np.float64]:
    """Means around every ``step``-th pixel, which is where the wavelet's smaller pictures have theirs."""
    half = step // 2
    padded = np.pad(pixels.astype(float), half, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (step + 1, step + 1))
    return windows[::step, ::step].mean(axis=(2, 3))


def test_ranges_that_follow_complete_the_first_one(server: Server) -> None:
    path = f"{path_of(ct())}/frames/1"
    whole = get(server, path, CODESTREAM)
    etag, size = whole.headers["ETag"], len(whole.content)
    pieces = [
        get(server, path, CODESTREAM, Range=f"bytes={start}-{start + 49_999}", **{"If-Range": etag})
        for start in range(0, size, 50_000)
    ]
    assert {(piece.status_code, piece.headers["ETag"]) for piece in pieces} == {(206, etag)}
    assert b"".join(piece.content for piece in pieces) == whole.content
    tail = get(server, path, CODESTREAM, Range="bytes=-1000")
    assert (tail.status_code, tail.content) == (206, whole.content[-1000:])


def test_a_range_outside_is_416_and_one_of_another_version_is_answered_with_the_whole(server: Server) -> None:
    path = f"{path_of(ct())}/frames/1"
    whole = get(server, path, CODESTREAM)
    outside = get(server, path, CODESTREAM, Range=f"bytes={len(whole.content)}-")
    assert (outside.status_code, outside.content) == (416, b"")
    assert outside.headers["Content-Range"] == f"bytes */{len(whole.content)}"
    changed = get(server, path, CODESTREAM, Range="bytes=0-99", **{"If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, whole.content)
    known = get(server, path, CODESTREAM, **{"If-None-Match": whole.headers["ETag"]})
    assert known.status_code == 304


def test_a_multipart_answer_has_no_ranges(server: Server) -> None:
    response = get(server, f"{path_of(ct())}/frames/1", f'multipart/related; type="image/jphc"; transfer-syntax={RPCL}',
                   Range="bytes=0-99")  # fmt: skip
    assert response.status_code == 200
    assert "Accept-Ranges" not in response.headers
    (codestream,) = part_bodies(response)
    np.testing.assert_array_equal(openjpeg.decode(codestream), pixels_of(ct()))


def test_without_the_setting_nobody_gets_it_unasked(server: Server) -> None:
    for accept in ("*/*", VIEWER):
        (frame,) = part_bodies(get(server, f"{path_of(ct())}/frames/1", accept))
        assert frame == pixels_of(ct()).tobytes()


def test_by_setting_a_viewer_that_leaves_the_choice_gets_it(preferring: Server) -> None:
    assert stow(preferring, [ct()]).status_code == 200
    for accept in ("*/*", VIEWER, "image/*", "*/*; transfer-syntax=*"):
        response = get(preferring, f"{path_of(ct())}/frames/1", accept)
        assert response.status_code == 200, accept
        assert RPCL in response.headers["Content-Type"] or f"transfer-syntax={RPCL}".encode() in response.content[:500]
        (codestream,) = part_bodies(response) if accept != "image/*" else [response.content]
        np.testing.assert_array_equal(openjpeg.decode(codestream), pixels_of(ct()))
    (bulk,) = part_bodies(get(preferring, f"{path_of(ct())}/pixeldata", VIEWER))
    np.testing.assert_array_equal(openjpeg.decode(bulk), pixels_of(ct()))


def test_by_setting_what_a_client_names_still_wins_and_the_stored_file_stays_as_it_came(preferring: Server) -> None:
    stow(preferring, [ct()])
    native = get(preferring, f"{path_of(ct())}/frames/1", "application/octet-stream")
    assert native.content == pixels_of(ct()).tobytes()
    named = f'multipart/related; type="application/octet-stream"; transfer-syntax={EXPLICIT_LITTLE}'
    assert part_bodies(get(preferring, f"{path_of(ct())}/frames/1", named)) == [pixels_of(ct()).tobytes()]
    (file,) = part_bodies(get(preferring, path_of(ct()), AS_STORED))
    # All but the preamble, which is never kept.
    assert hashlib.sha256(file[128:]).digest() == hashlib.sha256(ct()[128:]).digest()


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "rtdose_1frame.dcm"])
def test_by_setting_stored_codestreams_and_what_cannot_be_made_go_out_as_they_are(
    preferring: Server, name: str
) -> None:
    file = example(name)
    stow(preferring, [file])
    (frame,) = part_bodies(get(preferring, f"{path_of(file)}/frames/1", VIEWER))
    data_set = pydicom.dcmread(BytesIO(file))
    assert frame in data_set.PixelData if name == "MR_small_RLE.dcm" else frame == data_set.PixelData


def test_what_was_made_is_kept_and_a_damaged_copy_is_made_anew(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        assert stow(server, [ct()]).status_code == 200
        path = f"{path_of(ct())}/frames/1"
        first = get(server, path, CODESTREAM).content
        (copy,) = kept(server)
        made = copy.stat().st_ino
        assert get(server, path, CODESTREAM).content == first
        assert copy.stat().st_ino == made
        damaged = bytearray(copy.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        copy.write_bytes(damaged)
        assert get(server, path, CODESTREAM).content == first
        assert copy.read_bytes() != damaged
        server.restart()
        assert get(server, path, CODESTREAM).content == first
        assert requests.delete(server.dicomweb_url + path_of(ct()), timeout=60).status_code in (200, 204)
        assert server.pacs("purge", "--older-than", "0").returncode == 0
        assert kept(server) == []


def test_nothing_is_kept_when_there_is_to_be_no_room(tmp_path: Path) -> None:
    with Server(tmp_path, {"FRAMES_CACHE_BYTES": "0"}) as server:
        assert stow(server, [ct()]).status_code == 200
        assert get(server, f"{path_of(ct())}/frames/1", CODESTREAM).status_code == 200
        assert not (server.data / "frames").exists()


def test_ahead_frames_are_made_once_it_is_quiet(tmp_path: Path) -> None:
    template = Template()
    files = [template.stamp(Slice(1, number, number)) for number in range(1, 13)]
    with Server(tmp_path, {"FRAMES_HTJ2K": "ahead"}) as server:
        assert stow(server, [*files, example("MR_small_RLE.dcm")]).status_code == 200
        deadline = time.monotonic() + 60
        while len(kept(server)) < len(files):
            assert time.monotonic() < deadline, server.log()[-2000:]
            time.sleep(0.1)
        made = {path: path.stat().st_ino for path in kept(server)}
        for file in files:
            (codestream,) = part_bodies(get(server, f"{path_of(file)}/frames/1", VIEWER))
            np.testing.assert_array_equal(openjpeg.decode(codestream), pixels_of(file))
        assert {path: path.stat().st_ino for path in kept(server)} == made
        assert not re.search("Traceback", server.log())


def test_ahead_without_room_is_refused_at_start(tmp_path: Path) -> None:
    done = Server(tmp_path, {"FRAMES_HTJ2K": "ahead", "FRAMES_CACHE_BYTES": "0"}).pacs("config")
    assert done.returncode != 0
    assert "FRAMES_CACHE_BYTES" in done.stdout + done.stderr
