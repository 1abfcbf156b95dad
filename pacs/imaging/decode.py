"""Frames as native pixel data."""

from __future__ import annotations

from collections.abc import Sequence

from pacs.dicom import transfer_syntax
from pacs.imaging import codecs, frames
from pacs.imaging.source import Source


def can_decode(transfer_syntax_uid: str) -> bool:
    """Whether frames of this transfer syntax can be made native here."""
    if transfer_syntax_uid in codecs.FAMILIES:
        return True
    syntax = transfer_syntax.BY_UID.get(transfer_syntax_uid)
    return syntax is not None and not syntax.encapsulated and "JPIP" not in syntax.name


def decode_frames(source: Source, numbers: Sequence[int]) -> list[bytes]:
    """Frames as Explicit VR Little Endian would hold them; see ``changed_attributes``. numbers: from 1.

    A frame of single bits starts with the first bit of its first byte. Raises NotFound for a number beyond the frames
    or an instance without, Undecodable when the pixels cannot be decoded or are not all there.
    """
    image = frames.image_of(source)
    with source.open() as reader:
        if not frames.pixels_of(source).encapsulated:
            return [frames.native_bytes(source, reader, image, number) for number in numbers]
        planar = stays_planar(source, image)
        decoded = []
        for number in numbers:
            array, _ = frames.frame_array(source, reader, image, number)
            decoded.append(frames.packed(array, image, planar))
        return decoded


def changed_attributes(source: Source) -> dict[str, str | int]:
    """Attributes of the Image Pixel Module that differ once decoded: tag → value (PS3.5 8.2).

    Empty for native pixel data. Photometric Interpretation is told by the first frame's codestream.
    """
    pixels = source.layout.pixels
    if pixels is None or not pixels.encapsulated:
        return {}
    image = frames.image_of(source)
    changed: dict[str, str | int] = {}
    with source.open() as reader:
        photometric = codecs.photometric_after(
            source.transfer_syntax_uid, frames.stored_frame(source, reader, 1), image.wanted
        )
    if photometric != image.photometric:
        changed["00280004"] = photometric
    if image.samples > 1 and source.value("00280006") != int(stays_planar(source, image)):
        changed["00280006"] = int(stays_planar(source, image))
    if pixels.number_of_frames != 1 and str(source.value("00280008", "")) != str(pixels.number_of_frames):
        changed["00280008"] = str(pixels.number_of_frames)
    if transfer_syntax.find(source.transfer_syntax_uid).lossy and source.value("00282110") != "01":
        changed["00282110"] = "01"
    return changed


def photometric_after(source: Source) -> str:
    """Photometric Interpretation of what ``decode_frames`` gives. Raises NotFound, Undecodable."""
    return str(changed_attributes(source).get("00280004") or frames.image_of(source).photometric)


def stays_planar(source: Source, image: frames.Image) -> bool:
    """Whether decoded frames are colour-by-plane: transform codecs give colour-by-pixel whatever is declared."""
    if image.samples == 1:
        return False
    return image.planar and codecs.FAMILIES.get(source.transfer_syntax_uid) in ("rle", "deflated", "plain")
