"""Rendered resources and thumbnails over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from pydicom.data import get_testdata_file

from tests import builders
from tests.unit.web.running import RunningArchive
from tests.wire.clients import split_multipart, stow

INSTANCE = "/studies/1.1/series/1.1.1/instances/1.1.1.1"
MULTIFRAME = "/studies/1.2/series/1.2.1/instances/1.2.1.1"


def ramp(rows: int, columns: int) -> bytes:
    return np.tile(np.arange(columns, dtype="<i2") * 5, (rows, 1)).tobytes()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    report = get_testdata_file("reportsi.dcm", download=False)
    assert isinstance(report, str)
    with RunningArchive(tmp_path_factory.mktemp("rendered")) as running:
        files = [
            builders.ct("1.1", "1.1.1", "1.1.1.1", rows=100, columns=300, PixelData=ramp(100, 300)),
            builders.ct("1.2", "1.2.1", "1.2.1.1", rows=32, columns=32, frames=4),
            *(builders.ct("1.3", "1.3.1", f"1.3.1.{n}", rows=16, columns=16) for n in range(3)),
            builders.ct("1.3", "1.3.2", "1.3.2.1", PixelData=..., Modality="SR"),
            builders.ct("1.4", "1.4.1", "1.4.1.1", PixelData=..., Modality="SR"),
            builders.encapsulated(
                [b"not a jpeg!!"],
                transfer_syntax="1.2.840.10008.1.2.4.50",
                StudyInstanceUID="1.5",
                SeriesInstanceUID="1.5.1",
                SOPInstanceUID="1.5.1.1",
            ),
            Path(report).read_bytes(),
        ]
        answer = stow(running, files)  # type: ignore[arg-type]
        assert answer.status_code in (200, 202), answer.text
        yield running


def get(web: RunningArchive, path: str, accept: str = "*/*", **headers: str) -> requests.Response:
    return requests.get(web.dicomweb_url + path, headers={"Accept": accept, **headers}, timeout=60)


def picture(response: requests.Response) -> Image.Image:
    assert response.status_code == 200, response.text
    return Image.open(BytesIO(response.content))


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "JPEG"),
        ("image/jpeg", "JPEG"),
        ("image/png", "PNG"),
        ("image/png, image/jpeg", "PNG"),
        ("image/*", "JPEG"),
        ("image/jpeg;q=0.1, image/png;q=0.2", "PNG"),
        ("text/html, image/*;q=0.5", "JPEG"),
    ],
)
def test_a_picture_of_the_asked_type(web: RunningArchive, accept: str, kind: str) -> None:
    response = get(web, f"{INSTANCE}/rendered", accept)
    assert picture(response).format == kind
    assert response.headers["Content-Type"] == f"image/{kind.lower()}"
    assert picture(response).size == (300, 100)


def test_window_moves_what_is_black_and_white(web: RunningArchive) -> None:
    # Stored value = 5 * column, minus 1024 by rescale.
    image = np.asarray(picture(get(web, f"{INSTANCE}/rendered?window=-274,500,linear", "image/png")).convert("L"))
    assert image[50, 10] == 0
    assert image[50, 290] == 255
    assert 100 < image[50, 150] < 155
    other = np.asarray(picture(get(web, f"{INSTANCE}/rendered?window=1500,500", "image/png")).convert("L"))
    assert other[50, 150] == 0


def test_viewport_scales_crops_and_flips(web: RunningArchive) -> None:
    assert picture(get(web, f"{INSTANCE}/rendered?viewport=150,50")).size == (150, 50)
    window = "window=476,3000"
    right = np.asarray(
        picture(get(web, f"{INSTANCE}/rendered?viewport=100,100,200,0,100,100&{window}", "image/png")).convert("L")
    )
    whole = np.asarray(picture(get(web, f"{INSTANCE}/rendered?{window}", "image/png")).convert("L"))
    np.testing.assert_array_equal(right, whole[:, 200:])
    flipped = np.asarray(
        picture(get(web, f"{INSTANCE}/rendered?viewport=300,100,,,-300,100&{window}", "image/png")).convert("L")
    )
    np.testing.assert_array_equal(flipped, whole[:, ::-1])


def test_quality_changes_the_size(web: RunningArchive) -> None:
    path = "/studies/1.3/series/1.3.1/instances/1.3.1.0/rendered?quality="
    assert len(get(web, f"{path}10").content) < len(get(web, f"{path}100").content)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("quality=0", "quality"),
        ("quality=101", "quality"),
        ("quality=x", "quality"),
        ("window=1", "window"),
        ("window=a,b", "window"),
        ("window=1,0", "window"),
        ("window=1,2,cubic", "window"),
        ("window=nan,1", "window"),
        ("viewport=1", "viewport"),
        ("viewport=0,5", "viewport"),
        ("viewport=1e9,1e9", "viewport"),
        ("viewport=10,10,0,0,0,0", "viewport"),
        ("viewport=inf,1", "viewport"),
    ],
)
def test_parameters_that_mean_nothing_are_named(web: RunningArchive, query: str, name: str) -> None:
    response = get(web, f"{INSTANCE}/rendered?{query}")
    assert response.status_code == 400, response.text
    assert response.json()["parameter"] == name


def test_frames_are_rendered_one_by_one_or_together(web: RunningArchive) -> None:
    assert picture(get(web, f"{MULTIFRAME}/frames/2/rendered")).size == (32, 32)
    response = get(web, f"{MULTIFRAME}/frames/1,3/rendered", "image/png")
    assert response.headers["Content-Type"].startswith('multipart/related; type="image/png"')
    pictures = split_multipart(response.headers["Content-Type"], response.content)
    assert [Image.open(BytesIO(data)).size for data in pictures] == [(32, 32)] * 2
    assert get(web, f"{MULTIFRAME}/frames/5/rendered").status_code == 404
    assert get(web, f"{MULTIFRAME}/frames/1,5/rendered").status_code == 404


@pytest.mark.parametrize("accept", ["*/*", "image/jpeg", 'multipart/related; type="image/jpeg"'])
def test_a_series_is_rendered_instance_by_instance(web: RunningArchive, accept: str) -> None:
    response = get(web, "/studies/1.3/series/1.3.1/rendered", accept)
    assert response.status_code == 200
    pictures = split_multipart(response.headers["Content-Type"], response.content)
    assert [Image.open(BytesIO(data)).format for data in pictures] == ["JPEG"] * 3


def test_what_has_no_pixels_is_left_out_of_a_study_and_told(web: RunningArchive) -> None:
    response = get(web, "/studies/1.3/rendered")
    assert response.status_code == 206
    assert len(split_multipart(response.headers["Content-Type"], response.content)) == 3
    assert "1 of 4" in response.headers["Warning"]


@pytest.mark.parametrize("path", ["/studies/1.3", "/studies/1.3/series/1.3.1", INSTANCE, f"{MULTIFRAME}/frames/2"])
@pytest.mark.parametrize("accept", ["*/*", "image/png"])
def test_thumbnails_are_small_at_every_level(web: RunningArchive, path: str, accept: str) -> None:
    image = picture(get(web, f"{path}/thumbnail", accept))
    assert max(image.size) <= 200
    assert image.format == ("PNG" if accept == "image/png" else "JPEG")


def test_a_thumbnail_keeps_its_shape_and_takes_a_viewport(web: RunningArchive) -> None:
    width, height = picture(get(web, f"{INSTANCE}/thumbnail")).size
    assert (width, round(width / height)) == (200, 3)
    assert picture(get(web, f"{INSTANCE}/thumbnail?viewport=60,20")).size == (60, 20)


@pytest.mark.parametrize(
    "path",
    [
        "/studies/1.4",
        "/studies/1.4/series/1.4.1",
        "/studies/1.4/series/1.4.1/instances/1.4.1.1",
        "/studies/1.5/series/1.5.1/instances/1.5.1.1",
    ],
)
@pytest.mark.parametrize("kind", ["rendered", "thumbnail"])
def test_what_is_no_image_or_cannot_be_decoded_is_406(web: RunningArchive, path: str, kind: str) -> None:
    response = get(web, f"{path}/{kind}")
    assert response.status_code == 406
    assert response.headers["Content-Type"] == "application/problem+json"


def test_types_that_are_not_made_are_406_with_those_that_are(web: RunningArchive) -> None:
    response = get(web, f"{INSTANCE}/rendered", "video/mp4")
    assert response.status_code == 406
    assert "image/jpeg" in response.json()["available"]


def test_a_picture_has_a_validator_of_its_options(web: RunningArchive) -> None:
    first = get(web, f"{INSTANCE}/rendered")
    etag = first.headers["ETag"]
    same = get(web, f"{INSTANCE}/rendered", **{"If-None-Match": etag})
    assert (same.status_code, same.content) == (304, b"")
    for other in ("rendered?window=1,2", "rendered?quality=50", "thumbnail"):
        assert get(web, f"{INSTANCE}/{other}", **{"If-None-Match": etag}).status_code == 200
    assert get(web, f"{INSTANCE}/rendered", **{"Range": "bytes=0-2"}).content == first.content[:3]
    head = requests.head(f"{web.dicomweb_url}{INSTANCE}/rendered", timeout=60)
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", etag)
