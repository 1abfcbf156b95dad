"""Sources of real files and of made ones, and what independent decoders say of them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from pacs.dicom.header import read_header
from pacs.dicom.transfer_syntax import JPEG_BASELINE, JPEG_EXTENDED
from pacs.errors import PacsError
from pacs.imaging.source import Source
from tests import builders

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def source_of(path: Path) -> Source:
    header = read_header(path, derive_uids=True)
    return Source(path, header.transfer_syntax_uid, header.data_set_offset, header.json, header.layout)


def real_images() -> list[Path]:
    """Files of the pydicom wheel that have pixels."""
    found = []
    for path, _ in builders.real_files():
        if path.name != "DICOMDIR" and "dicomdirtests" not in path.parts and source_or_none(path):
            found.append(path)
    return found


def source_or_none(path: Path) -> Source | None:
    try:
        source = source_of(path)
    except PacsError:
        return None
    return source if source.layout.pixels else None


def real(name: str) -> Path:
    (path,) = {path for path, _ in builders.real_files() if path.name == name}
    return path


def image_file(
    path: Path,
    pixels: NDArray[Any] | None,
    transfer_syntax: str = EXPLICIT,
    *,
    frames: list[bytes] | None = None,
    photometric: str = "",
    **attributes: Any,
) -> Source:
    """Write an image of (rows, columns[, samples]) or (frames, rows, columns) and open it.

    frames: codestreams that make up encapsulated Pixel Data; pixels then only tell sizes.
    """
    rows, columns, samples, count = 0, 0, 1, 1
    if pixels is not None:
        if pixels.ndim == 3 and pixels.shape[2] == 3:
            rows, columns, samples = pixels.shape
        elif pixels.ndim == 3:
            count, rows, columns = pixels.shape
        else:
            rows, columns = pixels.shape
    bits = (pixels.dtype.itemsize if pixels is not None else 1) * 8
    described: dict[str, Any] = {
        "SOPClassUID": SECONDARY_CAPTURE,
        "SOPInstanceUID": "2.25.1",
        "StudyInstanceUID": "2.25.2",
        "SeriesInstanceUID": "2.25.3",
        "PatientID": "P1",
        "SamplesPerPixel": samples,
        "PhotometricInterpretation": photometric or ("RGB" if samples == 3 else "MONOCHROME2"),
        "NumberOfFrames": count if count > 1 else None,
        "PlanarConfiguration": 0 if samples > 1 else None,
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels is not None and pixels.dtype.kind == "i"),
        **attributes,
    }
    described = {key: value for key, value in described.items() if value is not None}
    data = builders.part10(described, transfer_syntax)
    explicit = transfer_syntax != IMPLICIT
    if frames is not None:
        data += _encapsulated(frames)
    elif pixels is not None:
        value = pixels.tobytes()
        value += b"\0" * (len(value) % 2)
        head = b"\xe0\x7f\x10\x00" + (b"OW\0\0" if explicit else b"")
        data += head + len(value).to_bytes(4, "little") + value
    path.write_bytes(data)
    return source_of(path)


def _encapsulated(frames: list[bytes]) -> bytes:
    """Pixel Data of these fragments, with an empty Basic Offset Table."""
    items = b""
    for frame in (b"", *frames):
        item = frame + b"\0" * (len(frame) % 2)
        items += b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item
    return b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + items + b"\xfe\xff\xdd\xe0\0\0\0\0"


def dcmtk(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([f"/usr/bin/{program}", *map(str, arguments)], capture_output=True, timeout=60)


def dcmtk_picture(path: Path, out: Path, *options: str) -> NDArray[np.uint8]:
    """What dcmj2pnm shows: (rows, columns) or (rows, columns, 3)."""
    done = dcmtk("dcmj2pnm", *options, path, out)
    assert done.returncode == 0, done.stderr
    from PIL import Image

    with Image.open(out) as image:
        return np.asarray(image)


def becomes_rgb(source: Source) -> bool:
    """A lossy JPEG with subsampled chroma: decoders convert it, each with roundings of its own."""
    is_lossy = source.transfer_syntax_uid in (JPEG_BASELINE, JPEG_EXTENDED)
    return is_lossy and source.value("00280004") == "YBR_FULL_422"


def pydicom_rgb(path: Path, index: int) -> NDArray[Any]:
    return np.asarray(pydicom.pixels.pixel_array(path, index=index))


def pydicom_raw(path: Path, index: int) -> NDArray[Any]:
    return np.asarray(pydicom.pixels.pixel_array(path, index=index, raw=True))
