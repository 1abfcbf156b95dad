"""How peers of peers.toml are sent to: transfer syntaxes by preference, warm and parallel associations, limits."""

from __future__ import annotations

import pytest

from pacs.dicom import transfer_syntax as syntaxes
from tests.builders import ct, data_set_of, real_files
from tests.unit.dimse.archive import dimse_archive
from tests.wire.moving import Destination, move, study


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    with dimse_archive(tmp_path_factory.mktemp("sending")) as archive:
        yield archive


def destination(pacs, ae_title, settings, **options):
    """A peer of peers.toml."""
    made = Destination(pacs, ae_title, **options)
    port = made.listener.getsockname()[1]
    pacs.write_peers(f'[peers.{ae_title}]\nhost = "127.0.0.1"\nport = {port}\n{settings}\n')
    return made


def moved(pacs, ae_title, uid):
    found, _ = move(pacs, ae_title, study(uid))
    return found[-1]


def test_instances_go_out_in_the_transfer_syntax_that_the_peer_is_said_to_prefer(pacs):
    uid = "1.2.826.0.1.3680043.10.1462.701"
    file = ct(uid, rows=64, columns=64)
    pacs.put(file)
    ls, stored = syntaxes.JPEG_LS_LOSSLESS, syntaxes.EXPLICIT_VR_LITTLE_ENDIAN
    for order, expected in (
        (["JPEG-LS Lossless"], ls),
        (["stored", ls], stored),
        ([syntaxes.IMPLICIT_VR_LITTLE_ENDIAN], syntaxes.IMPLICIT_VR_LITTLE_ENDIAN),
    ):
        peer = destination(pacs, "PREFERS", f"transfer_syntaxes = {order}\nkeep_s = 0")
        assert moved(pacs, "PREFERS", uid).status == 0
        ((_, syntax, data),) = peer.received
        assert syntax == expected
        assert (data == data_set_of(file)) is (syntax == stored)
        peer.close()


def test_what_cannot_be_made_in_a_preferred_syntax_goes_out_as_it_is_stored(pacs):
    path = next(path for path, _ in real_files() if path.name == "reportsi.dcm")
    instance = pacs.put(path.read_bytes())
    peer = destination(pacs, "REPORTS", 'transfer_syntaxes = ["JPEG 2000 Lossless"]')
    assert moved(pacs, "REPORTS", instance.target.study_uid).status == 0
    ((_, syntax, _),) = peer.received
    assert syntax == instance.transfer_syntax_uid
    peer.close()


def test_a_peer_that_refuses_what_it_is_said_to_prefer_gets_the_stored_syntax(pacs):
    uid = "1.2.826.0.1.3680043.10.1462.702"
    pacs.put(ct(uid))
    takes = {syntaxes.EXPLICIT_VR_LITTLE_ENDIAN}
    peer = destination(pacs, "REFUSES", 'transfer_syntaxes = ["RLE Lossless"]', takes=takes)
    assert moved(pacs, "REFUSES", uid).status == 0
    assert [syntax for _, syntax, _ in peer.received] == list(takes)
    peer.close()


def test_a_limit_of_bytes_a_second_keeps_every_byte(pacs):
    uid = "1.2.826.0.1.3680043.10.1462.703"
    file = ct(uid, size_bytes=300_000, columns=256)
    pacs.put(file)
    peer = destination(pacs, "SLOW", 'bytes_per_s = "1MiB"')
    assert moved(pacs, "SLOW", uid).status == 0
    assert [data for _, _, data in peer.received] == [data_set_of(file)]
    peer.close()
