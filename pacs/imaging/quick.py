"""Which pictures are made where they are asked for: of so small a frame, going to another process costs several times
what the picture does.

Only what can do no harm there: native samples, which no codec decodes, and a pipeline whose time and memory grow with
the frame alone.
"""

from __future__ import annotations

from pacs.dicom import transfer_syntax
from pacs.errors import PacsError
from pacs.imaging import frames
from pacs.imaging.forms import Form
from pacs.imaging.options import RenderOptions
from pacs.imaging.source import Source

_MOST_FRAME_BYTES = 2 << 20
_MOST_METADATA_BYTES = 64 << 10
_PIXEL_DATA = "7FE00010"
# Modality and VOI tables and segments: what they make of a frame, and how much they read, is up to the data set.
_TABLES = ("00283000", "00283010", "00289145", "52009229", "52009230", "00620001", "00620002")
_OVERLAYS = tuple(f"{group:04X}{element}" for group in range(0x6000, 0x6020, 2) for element in ("0010", "3000"))


def is_quick(source: Source, form: Form, options: RenderOptions) -> bool:
    """Whether ``show.picture`` of a frame is a matter of a millisecond or two. Opens no file."""
    layout, syntax = source.layout, transfer_syntax.find(source.transfer_syntax_uid)
    if form.kind != "image" or layout.pixels is None or layout.pixels.tag != _PIXEL_DATA:
        return False
    if (
        layout.pixels.encapsulated
        or layout.deflated
        or syntax.big_endian
        or len(source.metadata) > _MOST_METADATA_BYTES
    ):
        return False
    if options.viewport is not None or options.annotation or options.icc_profile != "no":
        return False
    if options.media_type == "image/gif" or any(tag in source.attributes for tag in _TABLES):
        return False
    if any(tag in source.attributes for tag in _OVERLAYS):
        return False
    try:
        image = frames.image_of(source)
    except PacsError:
        return False  # said again where the picture is tried
    is_grey = image.samples == 1 and image.photometric in ("MONOCHROME1", "MONOCHROME2")
    return is_grey and image.bits_allocated in (8, 16) and image.frame_bits <= _MOST_FRAME_BYTES * 8
