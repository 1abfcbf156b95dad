from __future__ import annotations

import pytest

from pacs.errors import Invalid, NotAcceptable
from pacs.web.negotiate import DICOM, OCTET_STREAM, Offer, accepted, choose, parse_media_type

EXPLICIT = "1.2.840.10008.1.2.1"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JSON = [Offer("application/dicom+json"), Offer("application/json")]
FILES = [Offer(DICOM, JPEG_LS, multipart=True), Offer(DICOM, EXPLICIT, multipart=True), Offer(DICOM, JPEG_LS)]
FRAMES = [
    Offer("image/jls", JPEG_LS, multipart=True),
    Offer(OCTET_STREAM, JPEG_LS, multipart=True),
    Offer(OCTET_STREAM, EXPLICIT, multipart=True),
    Offer("image/jls", JPEG_LS),
    Offer(OCTET_STREAM, EXPLICIT),
]


@pytest.mark.parametrize(
    ("header", "offers", "expected"),
    [
        ("application/dicom+json, application/json", JSON, JSON[0]),
        ("application/json", JSON, JSON[1]),
        ("application/dicom+json;q=0.5, application/json", JSON, JSON[1]),
        ("application/dicom+json;q=0, */*;q=0.1", JSON, JSON[1]),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON, JSON[0]),
        ("application/*", JSON, JSON[0]),
        ("*", JSON, JSON[0]),
        ("rubbish", JSON, JSON[0]),
        ("APPLICATION/DICOM+JSON", JSON, JSON[0]),
        ("*/*", FILES, FILES[0]),
        ("multipart/related", FILES, FILES[0]),
        ('multipart/related; type="application/dicom"', FILES, FILES[1]),
        ("multipart/related; type=application/dicom", FILES, FILES[1]),
        ('multipart/related; type="application/dicom"; transfer-syntax=*', FILES, FILES[0]),
        (f'multipart/related; type="application/dicom"; transfer-syntax={JPEG_LS}', FILES, FILES[0]),
        (f'multipart/related; type="application/dicom"; transfer-syntax="{EXPLICIT}"', FILES, FILES[1]),
        (
            f'multipart/related; type="application/dicom"; transfer-syntax={JPEG_LS};q=0.2, '
            f'multipart/related; type="application/dicom"; transfer-syntax={EXPLICIT};q=0.9',
            FILES,
            FILES[1],
        ),
        ("application/dicom; transfer-syntax=*", FILES, FILES[2]),
        ('multipart/related; type="*/*"', FRAMES, FRAMES[0]),
        ('multipart/related; type="image/jls"', FRAMES, FRAMES[0]),
        ('multipart/related; type="image/x-jls"', FRAMES, FRAMES[0]),
        ('multipart/related; type="image/*"', FRAMES, FRAMES[0]),
        ('multipart/related; type="application/octet-stream"', FRAMES, FRAMES[2]),
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", FRAMES, FRAMES[1]),
        ("image/jls", FRAMES, FRAMES[3]),
        ("application/octet-stream", FRAMES, FRAMES[4]),
        ('multipart/related; type="image/jls", multipart/related; type="application/octet-stream"', FRAMES, FRAMES[0]),
    ],
)
def test_the_offer_that_the_client_likes_best_is_chosen(header: str, offers: list[Offer], expected: Offer) -> None:
    assert choose(accepted([header]), offers) == expected


@pytest.mark.parametrize(
    ("header", "offers"),
    [
        ("application/dicom+xml", JSON),
        ('multipart/related; type="application/dicom+xml"', JSON),
        ("application/dicom+json;q=0", JSON[:1]),
        ('multipart/related; type="image/jpeg"', FRAMES),
        ("application/dicom; transfer-syntax=1.2.3", FILES),
        ("application/dicom", FILES),  # Explicit VR Little Endian is meant, and is only there as multipart
    ],
)
def test_nothing_acceptable_is_an_error_that_names_what_there_is(header: str, offers: list[Offer]) -> None:
    with pytest.raises(NotAcceptable) as caught:
        choose(accepted([header]), offers)
    assert caught.value.available == tuple(dict.fromkeys(str(offer) for offer in offers))


def test_no_accept_header_accepts_everything() -> None:
    assert choose(accepted([]), FRAMES) == FRAMES[0]


def test_accept_parameter_of_the_query_wins_over_the_header() -> None:
    assert choose(accepted(["application/dicom+json"], ["application/json"]), JSON) == JSON[1]


def test_client_order_decides_among_equals_when_asked_to() -> None:
    offers = [Offer("image/jpeg"), Offer("image/png")]
    ranges = accepted(["image/png, image/jpeg"])
    assert choose(ranges, offers) == offers[0]
    assert choose(ranges, offers, client_order=True) == offers[1]


def test_separators_within_quotes_belong_to_the_value() -> None:
    media = parse_media_type('multipart/related; boundary="a;b,c \\"d\\""; TYPE="Application/DICOM"')
    assert media.parameters["boundary"] == 'a;b,c "d"'
    assert media.content == "application/dicom"


@pytest.mark.parametrize("text", ["", "text", "text/", "/plain", "a b/c"])
def test_what_is_no_media_type_is_refused(text: str) -> None:
    with pytest.raises((Invalid, ValueError)):
        parse_media_type(text)
