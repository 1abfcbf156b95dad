"""Rows of the WADO-RS table that concern what people look at: one test a row, named after it, and its details."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import requests
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tests import builders
from tests.unit.web.running import RunningArchive
from tests.wire import shown_objects as shown
from tests.wire.clients import split_multipart, stow

LEVELS = ("/studies/1.1", "/studies/1.1/series/1.1.1", "/studies/1.1/series/1.1.1/instances/1.1.1.1")
IMAGE = LEVELS[2]
CINE = "/studies/1.2/series/1.2.1/instances/1.2.1.1"
REPORT, PDF, CDA, STL, FILM, TRANSPORT, STRUCTURES, ODD = (
    f"/studies/2.{n}/series/2.{n}.1/instances/2.{n}.1.1" for n in range(1, 9)
)
MIXED = "/studies/3.1"
PLAN = "/studies/3.2"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    columns = np.tile(np.arange(256, dtype="<i2"), (256, 1))
    cine = np.repeat(np.arange(1, 13, dtype="<i2"), 64 * 64) * 100
    image_item = shown.item(
        "IMAGE",
        "Key image",
        ReferencedSOPSequence=[{"ReferencedSOPInstanceUID": "2.1.7.9", "ReferencedFrameNumber": [3]}],
    )
    nested = shown.item("CONTAINER", "Findings <&>", ContentSequence=[
        shown.item("TEXT", "Text", TextValue="<script>alert(1)</script> größer"),
        shown.item("NUM", "Length", MeasuredValueSequence=[
            {"NumericValue": "7.5", "MeasurementUnitsCodeSequence": [shown.code("mm", "millimeter")]}]),
        image_item,
    ])  # fmt: skip
    vl_photo = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.4"}
    with RunningArchive(tmp_path_factory.mktemp("shown")) as running:
        files = [
            builders.ct("1.1", "1.1.1", "1.1.1.1", rows=256, columns=256, RescaleIntercept=0,
                        PixelData=columns.tobytes()),
            builders.ct("1.2", "1.2.1", "1.2.1.1", rows=64, columns=64, frames=12, PixelData=cine.tobytes(),
                        RescaleIntercept=0, FrameTime="40"),
            shown.report("2.1", [nested]),
            shown.pdf("2.2"),
            shown.document("2.3", "1.2.840.10008.5.1.4.1.1.104.2", "text/XML", shown.CDA.encode()),
            shown.document("2.4", "1.2.840.10008.5.1.4.1.1.104.3", "model/stl", shown.STL),
            shown.film("2.5"),
            shown.film("2.6", b"\x47" + bytes(187)),
            shown.structure_set("2.7"),
            shown.document("2.8", "1.2.840.10008.5.1.4.1.1.104.1", "text/html", b"<script>alert(1)</script>"),
            builders.ct("3.1", "3.1.1", "3.1.1.1", rows=32, columns=32, InstanceNumber=1),
            shown.report("3.1", [], 2),
            shown.pdf("3.1", 3),
            builders.ct("3.1", "3.1.2", "3.1.2.1", PixelData=..., Modality="PR", SeriesNumber=2,
                        SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1"),
            builders.ct("3.2", "3.2.1", "3.2.1.1", PixelData=..., Modality="RTPLAN",
                        SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5"),
            builders.ct("1.3", "1.3.1", "1.3.1.1", rows=16, columns=16, SamplesPerPixel=3, BitsAllocated=8,
                        BitsStored=8, HighBit=7, PixelRepresentation=0, PhotometricInterpretation="RGB",
                        PlanarConfiguration=0, RescaleSlope=..., RescaleIntercept=...,
                        PixelData=bytes((200, 100, 50)) * 256, ICCProfile=adobe_profile(), **vl_photo),
            shown.wheel("waveform_ecg.dcm").read_bytes(),
        ]  # fmt: skip
        answer = stow(running, files)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        yield running


def adobe_profile() -> bytes:
    from pacs.imaging.icc import made

    return made("adobergb")


def get(web: RunningArchive, path: str, accept: str = "*/*", **headers: str) -> requests.Response:
    return requests.get(web.dicomweb_url + path, headers={"Accept": accept, **headers}, timeout=60)


def opened(response: requests.Response) -> Image.Image:
    assert response.status_code == 200, response.text
    return Image.open(BytesIO(response.content))


def pixels(response: requests.Response) -> NDArray[np.uint8]:
    return np.asarray(opened(response))


def types(response: requests.Response) -> list[str]:
    """Content types of the parts of a multipart answer."""
    head = [line for line in response.content.split(b"\r\n") if line.startswith(b"Content-Type: ")]
    return [line[14:].decode() for line in head]


# --- one test a row ---


def test_rendered(web: RunningArchive) -> None:
    for level in (*LEVELS, f"{IMAGE}/frames/1"):
        for media_type in ("image/jpeg", "image/png", "image/gif"):
            response = get(web, f"{level}/rendered", media_type)
            assert response.headers["Content-Type"] == media_type
            assert opened(response).size == (256, 256)
    assert opened(get(web, f"{CINE}/rendered", "image/gif")).n_frames == 12  # type: ignore[attr-defined]
    film = get(web, f"{FILM}/rendered", "video/mp4")
    assert (film.headers["Content-Type"], film.content) == ("video/mp4", shown.FILM)
    grey = pixels(get(web, f"{IMAGE}/rendered?window=128,256,linear-exact", "image/png"))
    assert grey[0].tolist() == [int(value / 256 * 255 + 0.5) for value in range(256)]
    flipped = pixels(get(web, f"{IMAGE}/rendered?viewport=128,256,0,0,-128,256", "image/png"))
    assert flipped.shape == (256, 128)
    assert flipped[0, 0] > flipped[0, -1]
    sizes = [len(get(web, f"{IMAGE}/rendered?quality={quality}").content) for quality in (10, 100)]
    assert sizes[0] < sizes[1]
    plain = pixels(get(web, f"{IMAGE}/rendered", "image/png"))
    written = np.asarray(opened(get(web, f"{IMAGE}/rendered?annotation=patient&viewport=256,256", "image/png")))
    assert (written != plain).any()
    assert "icc_profile" in opened(get(web, f"{IMAGE}/rendered?iccprofile=srgb", "image/png")).info


def test_not_an_image_sr_pdf(web: RunningArchive) -> None:
    page = get(web, f"{REPORT}/rendered")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    pdf = get(web, f"{PDF}/rendered")
    assert (pdf.headers["Content-Type"], pdf.content) == ("application/pdf", shown.PDF)
    for path in (REPORT, PDF, CDA, STL, FILM, STRUCTURES, ODD, MIXED, PLAN, f"{REPORT}/frames/1", f"{FILM}/frames/1"):
        for kind in ("rendered", "thumbnail"):
            for accept in ("*/*", "image/png", "text/html", "video/mp4", "application/json"):
                response = get(web, f"{path}/{kind}", accept)
                assert response.status_code in (200, 206, 406), (path, kind, accept)
                if response.status_code == 406:
                    assert response.headers["Content-Type"] == "application/problem+json"


def test_thumbnail(web: RunningArchive) -> None:
    for level in (*LEVELS, f"{IMAGE}/frames/1"):
        response = get(web, f"{level}/thumbnail")
        assert response.headers["Content-Type"] == "image/jpeg"
        assert opened(response).size == (200, 200)
        assert len(response.content) < 20_000
    # The middle of twelve frames, between the range of its own.
    assert get(web, f"{CINE}/thumbnail").content == get(web, f"{CINE}/frames/6/thumbnail").content


# --- details ---


@pytest.mark.parametrize(
    ("accept", "query", "media_type"),
    [
        ("image/png;q=0.5, image/gif;q=0.9", "", "image/gif"),
        ("image/jpeg;q=0, */*", "", "image/png"),
        ("text/html", "?accept=image/png", "image/png"),
        ("image/webp, image/*;q=0.1", "", "image/jpeg"),
    ],
)
def test_the_best_accepted_type_is_sent(web: RunningArchive, accept: str, query: str, media_type: str) -> None:
    for kind in ("rendered", "thumbnail"):
        assert get(web, f"{IMAGE}/{kind}{query}", accept).headers["Content-Type"] == media_type


def test_one_picture_comes_as_multipart_to_who_asks_for_that(web: RunningArchive) -> None:
    response = get(web, f"{IMAGE}/rendered", 'multipart/related; type="image/png"')
    assert response.headers["Content-Type"].startswith('multipart/related; type="image/png"')
    assert len(split_multipart(response.headers["Content-Type"], response.content)) == 1


def test_each_part_of_a_study_has_its_own_type(web: RunningArchive) -> None:
    response = get(web, f"{MIXED}/rendered")
    assert response.status_code == 206
    assert "1 of 4" in response.headers["Warning"]
    assert types(response) == ["image/jpeg", "text/html; charset=utf-8", "application/pdf"]
    only_images = get(web, f"{MIXED}/rendered", "image/png")
    assert (only_images.status_code, types(only_images)) == (206, ["image/png"])
    refused = get(web, f"{MIXED}/rendered", "video/mp4")
    assert refused.status_code == 406
    assert {"image/png", "text/html", "application/pdf"} <= set(refused.json()["available"])


def test_a_report_is_escaped_and_links_to_what_it_refers_to(web: RunningArchive) -> None:
    response = get(web, f"{REPORT}/rendered", "text/html")
    page = response.content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; größer" in page
    assert "<script" not in page
    assert "Müller, Jörg" in page
    assert "Findings &lt;&amp;&gt;" in page
    assert "7.5 mm" in page
    link = f"{web.dicomweb_url}/studies/2.1/series/2.1.7/instances/2.1.7.9/frames/3/rendered"
    assert f'<a href="{link}">' in page
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    text = get(web, f"{REPORT}/rendered", "text/plain")
    assert text.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "  Length: 7.5 mm" in text.content.decode().splitlines()


def test_a_report_of_highdicom_reads_well(web: RunningArchive) -> None:
    made, data = shown.measurements()
    assert stow(web, [data]).status_code == 200  # type: ignore[arg-type]
    path = f"/studies/{made.StudyInstanceUID}/series/{made.SeriesInstanceUID}"
    text = get(web, f"{path}/rendered", "text/plain").content.decode()
    for words in ("Imaging Measurement Report", "Person Observer Name: Doe, Jane", "Diameter: 12.5 mm", "Lesion <1>"):
        assert words in text
    image = pydicom.dcmread(shown.wheel("CT_small.dcm"))
    link = f"/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}"
    assert f'href="{web.dicomweb_url}{link}/rendered"' in get(web, f"{path}/rendered", "text/html").text


@pytest.mark.parametrize(
    ("path", "media_type", "content", "name"),
    [
        (PDF, "application/pdf", shown.PDF, "2.2.1.1.pdf"),
        (CDA, "text/xml", shown.CDA.encode(), "2.3.1.1.xml"),
        (STL, "model/stl", shown.STL, "2.4.1.1.stl"),
        (FILM, "video/mp4", shown.FILM, "2.5.1.1.mp4"),
        (TRANSPORT, "video/mp2t", b"\x47" + bytes(187), "2.6.1.1.ts"),
    ],
)
def test_documents_and_films_pass_through(
    web: RunningArchive, path: str, media_type: str, content: bytes, name: str
) -> None:
    whole = get(web, f"{path}/rendered")
    assert (whole.headers["Content-Type"], whole.content) == (media_type, content)
    assert name in whole.headers["Content-Disposition"]
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    part = get(web, f"{path}/rendered", media_type, Range="bytes=10-99")
    assert (part.status_code, part.content) == (206, content[10:100])
    end = get(web, f"{path}/rendered", media_type, Range="bytes=-5")
    assert end.content == content[-5:]
    refused = get(web, f"{path}/rendered", "image/png")
    assert (refused.status_code, refused.json()["available"]) == (406, [media_type])
    assert opened(get(web, f"{path}/thumbnail")).size[1] == 200


def test_a_document_of_a_type_that_browsers_would_run_is_not_sent(web: RunningArchive) -> None:
    assert get(web, f"{ODD}/rendered").status_code == 406
    assert opened(get(web, f"{ODD}/thumbnail")).size == (160, 200)
    policy = get(web, f"{CDA}/rendered").headers["Content-Security-Policy"]
    assert "sandbox" in policy


def test_a_plan_has_nothing_to_show(web: RunningArchive) -> None:
    for kind in ("rendered", "thumbnail"):
        response = get(web, f"{PLAN}/{kind}")
        assert response.status_code == 406
        assert "metadata" in response.json()["detail"]


def test_an_animation_keeps_the_time_of_its_frames(web: RunningArchive) -> None:
    image = opened(get(web, f"{CINE}/rendered?window=600,1200,linear-exact", "image/gif"))
    levels, durations = [], []
    for number in range(12):
        image.seek(number)
        levels.append(int(np.asarray(image.convert("L"))[0, 0]))
        durations.append(image.info["duration"])
    assert durations == [40] * 12
    assert levels == sorted(levels)
    assert levels[-1] - levels[0] > 100
    # Without a window all frames share one range, so that an even frame is not black.
    image = opened(get(web, f"{CINE}/rendered", "image/gif"))
    image.seek(11)
    assert np.asarray(image.convert("L")).min() == 255
    assert not getattr(opened(get(web, f"{CINE}/thumbnail", "image/gif")), "is_animated", False)
    assert opened(get(web, f"{CINE}/frames/2/rendered", "image/gif")).n_frames == 1  # type: ignore[attr-defined]


def test_an_ecg_is_drawn_to_scale(web: RunningArchive) -> None:
    ds = pydicom.dcmread(shown.wheel("waveform_ecg.dcm"))
    path = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    drawn = pixels(get(web, f"{path}/rendered", "image/png")).astype(int)
    # 10 s at 25 mm/s and 4 pixels a mm: the trace is 1000 pixels wide.
    ink = drawn.max(axis=2) < 128
    trace = ink[60:].any(axis=0).nonzero()[0]
    longest = np.split(trace, np.flatnonzero(np.diff(trace) > 1) + 1)
    assert abs(max(len(run) for run in longest) - 1000) <= 4
    # Lead II: its R wave is as high as the calibrated samples say, 10 mm a millivolt.
    lead = ds.waveform_array(0)[:, 1] / 1000  # microvolt
    rows = ink[110:168, 60:1060].any(axis=1).nonzero()[0]
    assert abs((rows.max() - rows.min()) / 40 - (lead.max() - lead.min())) < 0.1
    assert max(opened(get(web, f"{path}/thumbnail")).size) == 200
    assert get(web, f"{path}/frames/1/rendered").status_code == 406


def test_structure_sets_are_drawn_in_their_colours(web: RunningArchive) -> None:
    drawn = pixels(get(web, f"{STRUCTURES}/rendered", "image/png"))
    body = np.argwhere((drawn[:, :640] == (255, 0, 0)).all(axis=2))
    target = np.argwhere((drawn[:, :640] == (0, 255, 0)).all(axis=2))
    sides = [np.ptp(points, axis=0) for points in (body, target)]
    np.testing.assert_allclose(sides[0] / sides[1], 5, atol=0.1)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segments_have_the_colours_that_they_recommend(web: RunningArchive, kind: str) -> None:
    data = shown.segmentation(hd.seg.SegmentationTypeValues[kind])
    answer = stow(web, [data])  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    url = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    frames = (1, 2) if kind == "BINARY" else (1, 1)
    left, right = (
        pixels(requests.get(f"{url}/frames/{n}/rendered", headers={"Accept": "image/png"}, timeout=60)).astype(int)
        for n in frames
    )
    assert left.shape == (128, 128, 3)
    assert np.abs(left[10, 10] - (255, 0, 0)).max() <= 6
    assert np.abs(right[100, 100] - (0, 255, 0)).max() <= 6
    assert right[10, 100].tolist() == [0, 0, 0]


def test_profiles_are_converted_as_asked(web: RunningArchive) -> None:
    path = "/studies/1.3/series/1.3.1/instances/1.3.1.1/rendered"

    def shade(parameter: str) -> tuple[list[int], bytes | None]:
        image = opened(get(web, path + parameter, "image/png"))
        return np.asarray(image)[0, 0].tolist(), image.info.get("icc_profile")

    def converted(target: str) -> list[int]:
        one = Image.new("RGB", (1, 1), (200, 100, 50))
        after = ImageCms.createProfile("sRGB") if target == "srgb" else BytesIO(profile)
        before = ImageCms.ImageCmsProfile(BytesIO(adobe_profile()))
        return list(ImageCms.profileToProfile(one, before, after).getpixel((0, 0)))  # type: ignore[union-attr,arg-type]

    color, profile = shade("")
    assert (color, profile) == (converted("srgb"), None)
    assert shade("?iccprofile=no") == (color, None)
    assert color != [200, 100, 50]
    assert shade("?iccprofile=yes") == ([200, 100, 50], adobe_profile())
    color, profile = shade("?iccprofile=srgb")
    assert color == converted("srgb")
    assert profile is not None
    assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(profile)))
    assert shade("?iccprofile=adobergb")[0] == [200, 100, 50]
    color, profile = shade("?iccprofile=rommrgb")
    assert profile is not None
    assert color == converted("rommrgb")
    jpeg = opened(get(web, path + "?iccprofile=srgb", "image/jpeg"))
    assert "icc_profile" in jpeg.info
    assert get(web, path + "?iccprofile=cmyk").json()["parameter"] == "iccprofile"


def test_annotations_are_legible_also_on_small_pictures(web: RunningArchive) -> None:
    path = f"{CINE}/rendered"
    for words in ("patient", "technique", "patient,technique"):
        picture = opened(get(web, f"{path}?annotation={words}", "image/png"))
        assert max(picture.size) == 512
        grey = np.asarray(picture.convert("L"))
        assert (grey[:256] == 255).any() == ("patient" in words)
        assert (grey[256:] == 255).any() == ("technique" in words)
    assert opened(get(web, f"{path}?annotation=patient&viewport=80,80")).size == (80, 80)
    assert get(web, f"{path}?annotation=secrets").json()["parameter"] == "annotation"


def test_head_and_validators_hold_for_what_is_no_image(web: RunningArchive) -> None:
    for path in (PDF, REPORT, FILM):
        first = get(web, f"{path}/rendered")
        etag = first.headers["ETag"]
        assert get(web, f"{path}/rendered", **{"If-None-Match": etag}).status_code == 304
        head = requests.head(f"{web.dicomweb_url}{path}/rendered", timeout=60)
        assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", etag)
        assert int(head.headers["Content-Length"]) == len(first.content)


def test_every_file_of_the_wheel_answers_at_every_level(tmp_path: Path) -> None:
    failed = []
    with RunningArchive(tmp_path, store={"replace": True}) as web, requests.Session() as session:
        for path, _ in builders.real_files():
            answer = stow(web, [path.read_bytes()])  # type: ignore[arg-type]
            stored = answer.json().get("00081199", {}).get("Value", ())
            for reference in stored:
                instance = reference["00081190"]["Value"][0]
                series = instance.partition("/instances/")[0]
                study = series.partition("/series/")[0]
                # A series of the wheel is made once: dozens of instances with each new one of them would take long.
                urls = [instance, f"{instance}/frames/1"]
                urls += [series, study] if "dicomdirtests" not in path.parts else []
                for url in urls:
                    for kind in ("rendered", "thumbnail"):
                        status = session.get(f"{url}/{kind}", timeout=60).status_code
                        if status not in (200, 206, 406):
                            failed.append((path.name, url, kind, status))
    assert not failed
