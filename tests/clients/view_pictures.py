"""Images of every kind that the viewer of the web page shows, each with what pydicom and the formulas make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_color_lut, apply_modality_lut

from tests import builders

ROWS, COLUMNS = 90, 140  # not square: what is turned or transposed is seen
Pixels = NDArray[Any]
Shown = NDArray[np.float64]


@dataclass(frozen=True)
class Picture:
    """A file and what each of its frames looks like: (rows, columns) grey or (rows, columns, 3), 0 to 255."""

    name: str
    file: bytes
    frames: list[Shown]

    @property
    def study_uid(self) -> str:
        return str(pydicom.dcmread(BytesIO(self.file)).StudyInstanceUID)


def linear(values: Shown, center: float, width: float) -> Shown:
    """PS3.3 C.11.2.1.2.1."""
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255


def linear_exact(values: Shown, center: float, width: float) -> Shown:
    """PS3.3 C.11.2.1.3.2."""
    return np.clip((values - center) / width + 0.5, 0, 1) * 255


def sigmoid(values: Shown, center: float, width: float) -> Shown:
    """PS3.3 C.11.2.1.3.1."""
    return 255 / (1 + np.exp(-4 * (values - center) / width))


def ramp(low: int, high: int, dtype: str) -> Pixels:
    """Values over the whole range, rising to the right and, by rows, with another step: no symmetry."""
    rows, columns = np.mgrid[0:ROWS, 0:COLUMNS]
    share = ((columns * 7 + rows * 3) % 251) / 250
    return np.round(low + share * (high - low)).astype(dtype)


def _made(name: str, show: Callable[[Any, Pixels], Any], frames: int = 1, **attributes: Any) -> Picture:
    """show: of the data set as pydicom reads it, and one frame of its pixel array."""
    own = {
        "SeriesDescription": name,
        "StudyDescription": name,
        "PatientName": f"Picture^{name}",
        "RescaleIntercept": ...,
        "RescaleSlope": ...,
    }
    file = builders.ct(rows=ROWS, columns=COLUMNS, frames=frames, **{**own, **attributes})
    data_set = pydicom.dcmread(BytesIO(file))
    array = data_set.pixel_array if frames > 1 else data_set.pixel_array[np.newaxis]
    shown = [np.asarray(show(data_set, frame), np.float64) for frame in array]
    return Picture(name, file, shown)


def _grey(window: Callable[[Shown, float, float], Shown] = linear) -> Callable[[Any, Pixels], Shown]:
    def show(data_set: Any, frame: Pixels) -> Shown:
        values = np.asarray(apply_modality_lut(frame, data_set), np.float64)
        return window(values, float(data_set.WindowCenter), float(data_set.WindowWidth))

    return show


def _inverse(data_set: Any, frame: Pixels) -> Shown:
    return 255 - _grey()(data_set, frame)


def _whole_range(data_set: Any, frame: Pixels) -> Shown:
    values = np.asarray(apply_modality_lut(frame, data_set), np.float64)
    return (values - values.min()) / (values.max() - values.min()) * 255


_HU = {"RescaleIntercept": -1024, "RescaleSlope": 1, "WindowCenter": 40, "WindowWidth": 400}


def pictures() -> list[Picture]:
    """All of them; UIDs are new each time."""
    hu = ramp(600, 1500, "<i2")
    return [
        _made("ct", _grey(), PixelData=hu.tobytes(), **_HU),
        _made("linear-exact", _grey(linear_exact), PixelData=hu.tobytes(), **_HU, VOILUTFunction="LINEAR_EXACT"),
        _made("sigmoid", _grey(sigmoid), PixelData=hu.tobytes(), **_HU, VOILUTFunction="SIGMOID"),
        _made("monochrome1", _inverse, PixelData=hu.tobytes(), **_HU, PhotometricInterpretation="MONOCHROME1"),
        _made(
            "signed",
            _grey(),
            PixelData=ramp(-900, 900, "<i2").tobytes(),
            **{**_HU, "RescaleIntercept": 0},
            BitsStored=16,
            HighBit=15,
        ),
        _made(
            "slope",
            _grey(),
            PixelData=ramp(0, 4095, "<i2").tobytes(),
            **{**_HU, "RescaleSlope": 0.25, "RescaleIntercept": -400.5},
            PixelRepresentation=0,
        ),
        _made("no-window", _whole_range, PixelData=ramp(17, 3000, "<u2").tobytes(), PixelRepresentation=0),
        _made(
            "eight-bits",
            _whole_range,
            PixelData=ramp(3, 250, "u1").tobytes(),
            BitsAllocated=8,
            BitsStored=8,
            HighBit=7,
            PixelRepresentation=0,
        ),
        _high_bit(),
        _made(
            "modality-table",
            _whole_range,
            PixelData=ramp(0, 99, "<u2").tobytes(),
            PixelRepresentation=0,
            ModalityLUTSequence=[_table(0, 100, 16, lambda at: at * at)],
        ),
        _voi_table(),
        _overlay(),
        _bits(),
        _dose(),
        *_colours(),
        _palette(),
        _film(),
        _enhanced(),
    ]


def _table(first: int, count: int, bits: int, entry: Callable[[Pixels], Pixels]) -> dict[str, Any]:
    entries = np.asarray(entry(np.arange(count)), "<u2")
    return {
        "LUTDescriptor": [count, first, bits],
        "LUTExplanation": "Curve",
        "ModalityLUTType": "US",
        "LUTData": entries.tobytes(),
    }


def _high_bit() -> Picture:
    """12 bits stored below bit 13; the others are rubbish. pydicom leaves such bits to the caller."""
    values = ramp(-2048, 2047, "<i4")
    words = (((values & 0xFFF) << 2) | 0xC001).astype("<u2")
    file = _made(
        "high-bit",
        lambda _, frame: frame,
        PixelData=words.tobytes(),
        BitsStored=12,
        HighBit=13,
        WindowCenter=0,
        WindowWidth=2000,
    )
    return Picture(file.name, file.file, [linear(values.astype(float), 0, 2000)])


def _voi_table() -> Picture:
    curve = _table(100, 256, 12, lambda at: 4095 - at * 16)
    curve.pop("ModalityLUTType")

    def show(_: Any, frame: Pixels) -> Shown:
        return (4095 - np.clip(frame.astype(float) - 100, 0, 255) * 16) / 4095 * 255

    return _made(
        "voi-table", show, PixelData=ramp(50, 400, "<u2").tobytes(), PixelRepresentation=0, VOILUTSequence=[curve]
    )


def _overlay() -> Picture:
    """An L in a plane that begins above and left of the third row and fifth column."""
    plane = np.zeros((40, 30), np.uint8)
    plane[5:35, 5:10] = plane[30:35, 5:25] = 1
    attributes = {
        "60000010": {"vr": "US", "Value": [40]},
        "60000011": {"vr": "US", "Value": [30]},
        "60000040": {"vr": "CS", "Value": ["G"]},
        "60000050": {"vr": "SS", "Value": [3, 5]},
        "60000100": {"vr": "US", "Value": [1]},
        "60000102": {"vr": "US", "Value": [0]},
        "60003000": builders.json_of({"PixelData": np.packbits(plane.reshape(-1), bitorder="little").tobytes()})[
            "7FE00010"
        ],
    }

    def show(data_set: Any, frame: Pixels) -> Shown:
        shown = _grey()(data_set, frame)
        shown[2:42, 4:34][data_set.overlay_array(0x6000) == 1] = 255
        return shown

    return _made("overlay", show, PixelData=ramp(600, 1500, "<i2").tobytes(), **_HU, **attributes)


def _bits() -> Picture:
    bits = (ramp(0, 9, "u1") > 4).astype(np.uint8)
    packed = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    return _made(
        "bits",
        lambda _, frame: frame * 255.0,
        PixelData=packed,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
        PixelRepresentation=0,
        Modality="OT",
    )


def _dose() -> Picture:
    return _made(
        "dose",
        _whole_range,
        PixelData=ramp(0, 9_000_000, "<u4").tobytes(),
        BitsAllocated=32,
        BitsStored=32,
        HighBit=31,
        PixelRepresentation=0,
        Modality="RTDOSE",
        DoseGridScaling=1e-6,
    )


def _colours() -> list[Picture]:
    rgb = np.stack([ramp(0, 255, "u1"), ramp(255, 0, "u1"), ramp(30, 180, "u1")], axis=2)
    common = {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "Modality": "US",
    }
    by_plane = np.moveaxis(rgb, 2, 0).tobytes()
    return [
        _made("rgb", lambda _, frame: frame, PixelData=rgb.tobytes(), **common, PlanarConfiguration=0),
        _made("rgb-by-plane", lambda _, frame: frame, PixelData=by_plane, **common, PlanarConfiguration=1),
        _made(
            "ybr",
            _from_ybr,
            PixelData=rgb.tobytes(),
            **{**common, "PhotometricInterpretation": "YBR_FULL"},
            PlanarConfiguration=0,
        ),
    ]


def _from_ybr(_: Any, frame: Pixels) -> Shown:
    # pydicom's pixel_array is RGB already.
    return frame.astype(float)


def _palette() -> Picture:
    at = np.arange(256)
    tables = {"Red": at * 257, "Green": (255 - at) * 257, "Blue": (at * 5 % 256) * 257}
    attributes: dict[str, Any] = {}
    for colour, entries in tables.items():
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        attributes[f"{colour}PaletteColorLookupTableData"] = entries.astype("<u2").tobytes()
    common = {
        "PhotometricInterpretation": "PALETTE COLOR",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "Modality": "US",
    }
    return _made(
        "palette",
        lambda data_set, frame: apply_color_lut(frame, data_set) // 256,
        PixelData=ramp(0, 255, "u1").tobytes(),
        **common,
        **attributes,
    )


def _film() -> Picture:
    frames = [ramp(low, low + 60, "u1") for low in range(0, 180, 15)]
    common = {
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "Modality": "XA",
        "FrameTime": 50,
        "WindowCenter": 128,
        "WindowWidth": 256,
    }
    return _made("film", _grey(), len(frames), PixelData=b"".join(frame.tobytes() for frame in frames), **common)


def _enhanced() -> Picture:
    """Frames in another order than that of space, each with a rescale and a window of its own."""
    places = [20.0, 0.0, 10.0, 30.0]
    centers = [100, 300, 500, 700]
    groups = [
        {
            "PlanePositionSequence": [{"ImagePositionPatient": [0, 0, place]}],
            "PixelValueTransformationSequence": [
                {"RescaleIntercept": -100 * at, "RescaleSlope": 2, "RescaleType": "US"}
            ],
            "FrameVOILUTSequence": [{"WindowCenter": centers[at], "WindowWidth": 600}],
        }
        for at, place in enumerate(places)
    ]
    shared = {
        "PlaneOrientationSequence": [{"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}],
        "PixelMeasuresSequence": [{"PixelSpacing": [0.5, 0.5], "SliceThickness": 10}],
    }
    frames = [ramp(0, 300 + 100 * at, "<u2") for at in range(len(places))]
    made = _made(
        "enhanced",
        lambda _, frame: frame,
        len(frames),
        SOPClassUID=builders.ENHANCED_CT_IMAGE_STORAGE,
        PixelRepresentation=0,
        PixelData=b"".join(frame.tobytes() for frame in frames),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=groups,
    )
    shown = [linear(frame.astype(float) * 2 - 100 * at, centers[at], 600) for at, frame in enumerate(frames)]
    # As the viewer sorts them: feet first.
    return Picture(made.name, made.file, [shown[at] for at in np.argsort(places)])
