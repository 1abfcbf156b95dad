from __future__ import annotations

import gzip
import random
import zlib

import pytest

from pacs.errors import Invalid
from pacs.web.inflate import Inflater

DATA = random.Random(3).randbytes(50_000) + bytes(3 << 20) + b"end"


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = [
    ("gzip", gzip.compress(DATA)),
    ("gzip", gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:])),
    ("deflate", zlib.compress(DATA)),
    ("deflate", bare_deflate(DATA)),
]


@pytest.mark.parametrize(("coding", "packed"), PACKED)
@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_what_was_packed_comes_out_whatever_the_pieces(coding: str, packed: bytes, size: int) -> None:
    inflater = Inflater(coding)
    pieces = [piece for at in range(0, len(packed), size) for piece in inflater.feed(packed[at : at + size])]
    inflater.close()
    assert b"".join(pieces) == DATA
    assert max(len(piece) for piece in pieces) <= 1 << 20


@pytest.mark.parametrize(("coding", "packed"), PACKED)
def test_a_packed_body_that_ends_early_is_refused(coding: str, packed: bytes) -> None:
    inflater = Inflater(coding)
    list(inflater.feed(packed[:-9]))
    with pytest.raises(Invalid):
        inflater.close()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_is_not_packed_is_refused(coding: str) -> None:
    with pytest.raises(Invalid):
        list(Inflater(coding).feed(b"--boundary\r\nContent-Type: application/dicom\r\n\r\n"))
