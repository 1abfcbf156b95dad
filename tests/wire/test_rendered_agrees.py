"""Rendered pictures over HTTP against pydicom's own pixels and LUTs, for every image in its wheel."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import openjpeg
import pydicom
import pytest
import requests
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

from pacs.dicom import transfer_syntax
from tests import builders
from tests.unit.imaging import sources
from tests.unit.web.running import RunningArchive
from tests.wire.clients import stow

# Damaged on purpose: pydicom refuses them.
_DAMAGED = {"JPEG2000-embedded-sequence-delimiter.dcm", "MR_truncated.dcm"}
# For these pydicom has no decoder here: DCMTK gives it native pixels, or OpenJPEG does.
_BY_DCMTK = {"JPEG-lossy.dcm", "JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm"}
_BY_OPENJPEG = {"GDCMJ2K_TextGBR.dcm"}
# Decoders round the inverse DCT and colour transform of a lossy JPEG each in its own way.
_LOSSY_DIFFERENCE = 4


@cache
def images() -> list[Path]:
    return [path for path, _ in builders.real_files() if path.name not in _DAMAGED and sources.source_or_none(path)]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    # Files of the wheel share SOP Instance UIDs: each takes the place of the one before.
    with RunningArchive(tmp_path_factory.mktemp("agrees"), store={"replace": True}) as running:
        yield running


def store_and_address(web: RunningArchive, path: Path) -> str:
    """Address of the instance below the DICOMweb root."""
    data = path.read_bytes()
    ds = pydicom.dcmread(path)
    if not ds.get("StudyInstanceUID"):
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.1", "2.25.2"
        written = BytesIO()
        ds.save_as(written)
        data = written.getvalue()
    answer = stow(web, [data])  # type: ignore[arg-type]
    assert answer.status_code in (200, 202), answer.text
    reference = answer.json()["00081199"]["Value"][0]
    return str(reference["00081190"]["Value"][0])


@pytest.mark.parametrize("path", images(), ids=lambda path: path.name)
def test_a_png_without_window_agrees_with_pydicom(web: RunningArchive, path: Path, tmp_path: Path) -> None:
    url = store_and_address(web, path)
    frames = sources.source_of(path).layout.pixels.number_of_frames  # type: ignore[union-attr]
    middle = (frames + 1) // 2
    response = requests.get(f"{url}/rendered", headers={"Accept": "image/png"}, timeout=60)
    assert response.status_code == 200, response.text
    shown = np.asarray(Image.open(BytesIO(response.content)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, lossy = by_pydicom(path, middle - 1, tmp_path)
    if path.name.startswith("liver"):
        # A segment in its own colour: the same mask.
        assert shown.ndim == 3
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 2
        shown = (shown.max(axis=2) > 0).astype(np.uint8) * 255
    assert shown.shape == expected.shape
    difference = np.abs(shown.astype(int) - expected).max()
    assert difference <= (_LOSSY_DIFFERENCE if lossy else 1)


def by_pydicom(path: Path, index: int, folder: Path) -> tuple[NDArray[np.float64], bool]:
    """(the picture from 0 to 255, whether its transfer syntax is lossy)."""
    ds = pydicom.dcmread(path)
    lossy = transfer_syntax.find(ds.file_meta.TransferSyntaxUID).lossy
    if path.name == "badVR.dcm":
        ds.NumberOfFrames = 1
    if path.name in _BY_DCMTK:
        done = sources.dcmtk("dcmdjpeg", path, folder / "native.dcm")
        assert done.returncode == 0, done.stderr
        ds = pydicom.dcmread(folder / "native.dcm")
    if path.name in _BY_OPENJPEG:
        pixels = openjpeg.decode(next(generate_frames(ds.PixelData)))
    else:
        pixels = pixel_array(ds, index=index)
    photometric = ds.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        shown = apply_color_lut(pixels, ds)
        return np.asarray(shown, np.float64) / (256 if shown.dtype.itemsize == 2 else 1), lossy
    if ds.SamplesPerPixel == 3:
        return np.floor(pixels / 2.0 ** (ds.BitsStored - 8)), lossy
    grey = grey_by_pydicom(ds, pixels)
    if photometric == "MONOCHROME1":
        grey = 255 - grey
    if "OverlayData" in ds or 0x60003000 in ds:
        grey = np.where(ds.overlay_array(0x6000) == 1, 255, grey)
    return grey, lossy


def grey_by_pydicom(ds: pydicom.Dataset, pixels: NDArray[Any]) -> NDArray[np.float64]:
    values = np.asarray(apply_modality_lut(pixels, ds), np.float64)
    if ("WindowCenter" in ds and ds.WindowCenter is not None) or "VOILUTSequence" in ds:
        windowed = apply_voi_lut(apply_modality_lut(pixels, ds), ds)
        if "VOILUTSequence" in ds:
            low, high = 0.0, 2.0 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1
        else:  # what pydicom spreads a window over: all that the sample can hold
            bits, signed = ds.BitsStored, ds.PixelRepresentation
            low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
            slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
            low, high = low * slope + intercept, high * slope + intercept
        return np.asarray((windowed - low) / (high - low) * 255, np.float64)
    counted = np.ones(pixels.shape, bool)
    if ds.get("PixelPaddingValue") is not None:
        counted = pixels != ds.PixelPaddingValue
    low, high = values[counted].min(), values[counted].max()
    return np.clip((values - low) / ((high - low) or 1) * 255, 0, 255)
