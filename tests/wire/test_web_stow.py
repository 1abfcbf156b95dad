"""STOW-RS over real HTTP and the real store."""

from __future__ import annotations

import gzip
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pacs.dicom.uids import new_uid
from pacs.web.server import Limits
from tests import builders
from tests.unit.web.running import RunningArchive
from tests.wire.clients import STOW_TYPE, failures, multipart, retrieve_files, stored_uids, value

JSON = "application/dicom+json"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    with RunningArchive(tmp_path_factory.mktemp("stow")) as running:
        yield running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RunningArchive]]:
    """Archives with options of the test's own."""
    running: list[RunningArchive] = []

    def starter(**options: Any) -> RunningArchive:
        running.append(RunningArchive(tmp_path / str(len(running)), **options).__enter__())
        return running[-1]

    yield starter
    for each in running:
        each.__exit__(None, None, None)


def post(
    web: RunningArchive, body: Any, content_type: str | None = STOW_TYPE, path: str = "/studies", **headers: str
) -> requests.Response:
    fields = {"Content-Type": content_type} if content_type is not None else {}
    return requests.post(web.dicomweb_url + path, data=body, headers={**fields, **headers, "Accept": JSON}, timeout=60)


def small(study_uid: str, sop_uid: str | None = None, **attributes: Any) -> bytes:
    return builders.ct(study_uid, f"{study_uid}.1", sop_uid, rows=8, columns=8, **attributes)


def found(web: RunningArchive, study_uid: str) -> set[str]:
    response = requests.get(f"{web.dicomweb_url}/studies/{study_uid}/instances", timeout=60)
    return {value(row, "00080018") for row in response.json()} if response.status_code == 200 else set()


def test_all_stored_is_200_with_where_to_retrieve_them(web: RunningArchive) -> None:
    study = new_uid()
    sops = {new_uid() for _ in range(3)}
    response = post(web, multipart(small(study, sop) for sop in sorted(sops)))
    assert response.status_code == 200
    assert response.headers["Content-Type"] == JSON
    answer = response.json()
    assert stored_uids(answer) == sops
    assert "00081198" not in answer
    assert value(answer, "00081190") == f"{web.dicomweb_url}/studies/{study}"
    for item in answer["00081199"]["Value"]:
        assert value(item, "00081150") == builders.CT_IMAGE_STORAGE
        assert requests.get(value(item, "00081190") + "/metadata", timeout=60).status_code == 200
    assert found(web, study) == sops


def test_the_same_again_is_a_success_and_changes_nothing(web: RunningArchive) -> None:
    study = new_uid()
    body = multipart([small(study, "1.5.1")])
    assert [post(web, body).status_code for _ in range(3)] == [200, 200, 200]
    assert found(web, study) == {"1.5.1"}


def test_one_bad_part_takes_none_of_the_others_with_it(web: RunningArchive) -> None:
    study, other = new_uid(), new_uid()
    good = small(study, new_uid())
    conflicting = small(study, new_uid())
    assert post(web, multipart([conflicting])).status_code == 200
    parts = [
        b"not DICOM at all",
        good,
        good[: len(good) // 2],
        b"",
        small(other),
        small(study, None, SOPInstanceUID=...),
        small(study, None, StudyInstanceUID=None),
        conflicting[:-2] + b"\x01\x01",
    ]
    response = post(web, multipart(parts), path=f"/studies/{study}")
    assert response.status_code == 202
    answer = response.json()
    assert len(stored_uids(answer)) == 1
    reasons = failures(answer)
    assert len(reasons) == 7
    assert reasons.count(0xA901) == 1
    assert reasons.count(0x0111) == 1
    assert {0x0120, 0x0121} <= set(reasons)
    assert all(value(item, "00000902") for item in answer["00081198"]["Value"])
    mismatch = next(item for item in answer["00081198"]["Value"] if value(item, "00081197") == 0xA901)
    assert value(mismatch, "00081150") == builders.CT_IMAGE_STORAGE
    assert not found(web, other)


def test_nothing_stored_is_409_with_the_reasons(web: RunningArchive) -> None:
    response = post(web, multipart([b"garbage", small(new_uid())]), path=f"/studies/{new_uid()}")
    assert response.status_code == 409
    assert sorted(failures(response.json())) == sorted([0xC000, 0xA901])
    assert "00081199" not in response.json()


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (STOW_TYPE, b"", 400),
        (STOW_TYPE, b"no boundary in here", 400),
        (STOW_TYPE, b"--wire-test-boundary-91c7--\r\n", 400),
        ('multipart/related; type="application/dicom"', b"x", 400),
        ("application/dicom", b"", 400),
        (None, b"x", 415),
        ("text/plain", b"x", 415),
        ("rubbish", b"x", 415),
        ("multipart/form-data; boundary=x", b"x", 415),
        ('multipart/related; type="text/html"; boundary=x', b"--x\r\n\r\n[]\r\n--x--", 415),
        ("application/json", b"[]", 415),
        ('multipart/related; type="application/dicom+json"; boundary=x', b"--x\r\n\r\n[]\r\n--x--", 400),
        ('multipart/related; type="application/dicom+json"; boundary=x', b"--x\r\n\r\n{\r\n--x--", 400),
        ("application/dicom+json", b"[]", 400),
    ],
)
def test_requests_that_mean_nothing(web: RunningArchive, content_type: str | None, body: bytes, status: int) -> None:
    response = post(web, body, content_type)
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    if status == 415:
        assert "application/dicom" in response.headers["Accept-Post"]


def test_one_file_by_itself_is_stored(web: RunningArchive) -> None:
    study = new_uid()
    assert post(web, small(study, "1.6.1"), "application/dicom").status_code == 200
    assert found(web, study) == {"1.6.1"}


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)],
)
def test_a_compressed_body_is_stored_as_it_was(
    web: RunningArchive, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    study = new_uid()
    file = small(study, new_uid())
    response = post(web, pack(multipart([file])), **{"Content-Encoding": coding})
    assert response.status_code == 200, response.text
    (back,) = retrieve_files(web, f"/studies/{study}")  # type: ignore[arg-type]
    assert builders.data_set_of(back) == builders.data_set_of(file)


def test_an_unknown_or_broken_coding_is_refused(web: RunningArchive) -> None:
    body = multipart([small(new_uid())])
    assert post(web, body, **{"Content-Encoding": "br"}).status_code == 415
    assert post(web, body, **{"Content-Encoding": "gzip"}).status_code == 400
    assert requests.get(f"{web.root_url}/health/live", timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("content_type", "template"),
    [
        ("multipart/related;type=application/dicom;boundary=a", b"--a\n\n%s\n--a--"),
        ('Multipart/Related; boundary="=_a b/+,"; type="application/dicom"', b"--=_a b/+,\r\n\r\n%s\r\n--=_a b/+,--"),
        (
            "multipart/related; boundary=a",
            b"junk\r\n--a\r\ncontent-type:application/octet-stream\r\n\r\n%s\r\n--a--junk",
        ),
    ],
)
def test_sloppy_multipart_is_stored(web: RunningArchive, content_type: str, template: bytes) -> None:
    study = new_uid()
    file = small(study, new_uid())
    assert post(web, template.replace(b"%s", file), content_type).status_code == 200
    (back,) = retrieve_files(web, f"/studies/{study}")  # type: ignore[arg-type]
    assert builders.data_set_of(back) == builders.data_set_of(file)


def test_parts_of_another_type_are_refused_one_by_one(web: RunningArchive) -> None:
    study = new_uid()
    body = multipart([small(study, "1.7.1")]).replace(
        b"--wire-test-boundary-91c7--",
        b"--wire-test-boundary-91c7\r\nContent-Type: text/plain\r\n\r\nhello\r\n--wire-test-boundary-91c7--",
    )
    response = post(web, body)
    assert response.status_code == 202
    assert stored_uids(response.json()) == {"1.7.1"}
    assert failures(response.json()) == [0xC000]


def test_the_preamble_is_never_given_back(web: RunningArchive) -> None:
    study = new_uid()
    file = b"MZ" + b"\x90" * 126 + small(study, new_uid())[128:]
    assert post(web, multipart([file])).status_code == 200
    (back,) = retrieve_files(web, f"/studies/{study}")  # type: ignore[arg-type]
    assert back[:132] == bytes(128) + b"DICM"


def test_a_body_that_is_too_large_is_413_announced_or_not(start: Callable[..., RunningArchive]) -> None:
    web = start(limits=Limits(body_bytes=20_000))
    big = multipart([builders.ct(size_bytes=200_000)])
    assert post(web, big).status_code == 413
    assert post(web, iter([big[:9000], big[9000:]])).status_code == 413
    assert post(web, multipart([small(new_uid())])).status_code == 200
    assert not list(web.incoming.iterdir())


def test_an_object_over_the_store_s_limit_is_413(start: Callable[..., RunningArchive]) -> None:
    web = start(store={"max_object_bytes": 20_000})
    study = new_uid()
    big = builders.ct(size_bytes=200_000)
    assert post(web, multipart([big])).status_code == 413
    response = post(web, multipart([big, small(study)]))
    assert response.status_code == 202
    assert failures(response.json()) == [0xA700]
    assert len(found(web, study)) == 1


def test_no_space_is_503_and_leaves_nothing(start: Callable[..., RunningArchive]) -> None:
    web = start(store={"min_free_bytes": 1 << 60})
    response = post(web, multipart([small(new_uid())]))
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert not list(web.incoming.iterdir())
    assert requests.get(f"{web.dicomweb_url}/studies", timeout=60).status_code == 204


def test_a_thousand_parts_are_stored_in_order(web: RunningArchive) -> None:
    study = new_uid()
    sops = [f"1.8.{number}" for number in range(1000)]
    response = post(web, multipart(small(study, sop) for sop in sops))
    assert response.status_code == 200
    assert [value(item, "00081155") for item in response.json()["00081199"]["Value"]] == sops


def test_thousands_of_tiny_parts_are_answered_one_by_one(web: RunningArchive) -> None:
    # All of them fit in one block of the body: each must be closed before the next group is stored.
    response = post(web, multipart([b"x"] * 3000))
    assert response.status_code == 409
    assert failures(response.json()) == [0xC000] * 3000


def test_a_bomb_meets_the_limit_of_the_request(start: Callable[..., RunningArchive]) -> None:
    web = start(limits=Limits(body_bytes=1 << 20))
    bomb = gzip.compress(multipart([builders.ct(PixelData=bytes(64 << 20))]))
    assert len(bomb) < 1 << 20
    assert post(web, bomb, **{"Content-Encoding": "gzip"}).status_code == 413
    assert not list(web.incoming.iterdir())


def test_what_was_whole_when_the_client_went_is_kept(web: RunningArchive, wait: Callable[..., None]) -> None:
    study = new_uid()
    body = multipart([small(study, "1.10.1"), small(study, "1.10.2"), builders.ct(study, size_bytes=300_000)])
    with socket.create_connection(("127.0.0.1", web.server.port)) as connection:
        head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {STOW_TYPE}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:150_000])
        time.sleep(0.3)  # what is still in the socket when the connection breaks is lost to everyone
    wait(lambda: found(web, study) == {"1.10.1", "1.10.2"})
    wait(lambda: not list(web.incoming.iterdir()))


def test_a_body_without_its_closing_boundary_keeps_the_whole_parts(web: RunningArchive) -> None:
    study = new_uid()
    body = multipart([small(study, "1.11.1"), small(study, "1.11.2")])
    response = post(web, body[: body.rindex(b"\r\n--")])
    assert response.status_code == 202
    assert stored_uids(response.json()) == {"1.11.1"}
    assert failures(response.json()) == [0xC000]


def test_the_answer_says_what_became_of_each_part_in_their_order(web: RunningArchive) -> None:
    study = new_uid()
    first, other = small(study, "1.12.1"), small(study, "1.12.1", PatientName="Somebody^Else")
    response = post(web, multipart([b"no image", first, first, other]))
    assert response.headers["X-Pacs-Parts"] == "C000 stored same 0111"
    many = post(web, multipart([b"no image"] * 101))
    assert "X-Pacs-Parts" not in many.headers


@pytest.fixture
def wait() -> Callable[[Callable[[], bool]], None]:
    def waiter(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "did not come true"
            time.sleep(0.02)

    return waiter
