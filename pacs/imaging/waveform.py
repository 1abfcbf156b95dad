"""Waveforms drawn as on paper: a millimetre grid, 25 mm a second, 10 mm a millivolt (PS3.3 C.10.9)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pacs.dicom.model import Attributes
from pacs.errors import Undecodable
from pacs.imaging import lettering
from pacs.imaging.source import Reader, Source, decimal, first, items

_SEQUENCE = "54000100"
_MM = 4  # pixels
_SUPER = 2  # drawn so much larger, then reduced: smooth lines
_MM_PER_SECOND = 25
_MM_PER_MILLIVOLT = 10
_LONGEST_S = 20.0
_SHORTEST_S = 0.5
_MOST_CHANNELS = 32
_MOST_SAMPLES = 1 << 28
_ROW_MM = (15, 60)  # least and most height of a channel
_MARGIN_MM = 5
_HEAD_MM = 12

_PAPER, _FINE, _COARSE, _INK = (255, 255, 255), (252, 228, 228), (244, 186, 186), (20, 20, 40)

# Waveform Sample Interpretation: data type; mu-law and A-law audio is expanded (ITU-T G.711).
_SAMPLES = {"SB": "i1", "UB": "u1", "SS": "<i2", "US": "<u2", "SL": "<i4", "UL": "<u4", "MB": "u1", "AB": "u1"}
_TO_MILLIVOLT = {"V": 1000.0, "mV": 1.0, "uV": 0.001, "µV": 0.001, "nV": 1e-6}


@dataclass(frozen=True)
class Channel:
    """label: short ("V1"). values: in ``unit`` where it is known, else as stored. is_ecg: in millivolt."""

    label: str
    values: NDArray[np.float64]
    unit: str

    @property
    def is_millivolt(self) -> bool:
        return self.unit == "mV"


def draw(source: Source, reader: Reader) -> NDArray[np.uint8]:
    """The first multiplex group of a waveform as (rows, columns, 3) RGB. Raises Undecodable when it cannot be read."""
    groups = items(source.attributes, _SEQUENCE)
    if not groups:
        raise Undecodable("the waveform has no data")
    frequency = decimal(first(groups[0], "003A001A"))
    if not frequency or not 1e-3 < frequency < 1e7:
        raise Undecodable("the waveform does not say its sampling frequency")
    shown_samples = max(2, int(frequency * _LONGEST_S))
    channels = read(source, reader, groups[0], shown_samples)
    total_s = float(decimal(first(groups[0], "003A0010")) or 0) / frequency
    seconds = max(_SHORTEST_S, len(channels[0].values) / frequency)
    return _page(channels, frequency, seconds, _caption(source.attributes, channels, frequency, seconds, total_s))


def read(source: Source, reader: Reader, group: Attributes, most_samples: int) -> list[Channel]:
    """Channels of a multiplex group, the first ``most_samples`` of each, calibrated where it can be."""
    count = int(decimal(first(group, "003A0005")) or 0)
    interpretation = str(first(group, "54001006", "SS")).strip()
    if not 0 < count < 65536 or interpretation not in _SAMPLES:
        raise Undecodable("the waveform's channels or samples are not told")
    kind = np.dtype(_SAMPLES[interpretation])
    if (source.layout.bulk.get(f"{_SEQUENCE}/1/54001010") or (0, 0))[1] > _MOST_SAMPLES * kind.itemsize:
        raise Undecodable("the waveform is longer than is drawn here")
    raw = source.bulk(reader, f"{_SEQUENCE}/1/54001010", group.get("54001010", {}))
    samples = np.frombuffer(raw, kind, min(len(raw) // kind.itemsize // count, most_samples) * count)
    if samples.size < 2 * count:
        raise Undecodable("the waveform has no samples")
    values = _expanded(samples, interpretation).reshape(-1, count).T
    described = [*items(group, "003A0200"), *[{}] * count][:count]
    padding = _padding(group, kind)
    channels: list[Channel] = []
    for definition, line in zip(described[:_MOST_CHANNELS], values, strict=False):
        line = np.where(line == padding, np.nan, line) if padding is not None else line
        channels.append(_calibrated(definition, line, len(channels) + 1))
    return channels


def _calibrated(definition: Attributes, stored: NDArray[np.float64], number: int) -> Channel:
    """Stored values × sensitivity × correction + baseline, in the sensitivity's unit (C.10.9.1.4.2)."""
    source_codes = items(definition, "003A0208")
    label = str(first(definition, "003A0203", "") or "").strip()
    for code in source_codes:
        label = label or str(first(code, "00080104", "")).strip()
    sensitivity = decimal(first(definition, "003A0210"))
    if not sensitivity:
        return Channel(_short(label) or str(number), stored, "")
    unit = ""
    for code in items(definition, "003A0211"):
        unit = str(first(code, "00080100", "")).strip()
    correction = decimal(first(definition, "003A0212"), 1.0) or 1.0
    baseline = decimal(first(definition, "003A0213"), 0.0) or 0.0
    values = stored * (sensitivity * correction) + baseline
    if unit in _TO_MILLIVOLT:
        values, unit = values * _TO_MILLIVOLT[unit], "mV"
    return Channel(_short(label) or str(number), values, unit)


def _short(label: str) -> str:
    """ "Lead I (Einthoven)" as "I"."""
    label = label.split("(")[0].strip()
    return (label[5:] if label.lower().startswith("lead ") else label)[:24]


def _expanded(samples: NDArray[np.generic], interpretation: str) -> NDArray[np.float64]:
    if interpretation == "MB":
        code = ~samples.astype(np.uint8)
        size = (((code & 0x0F).astype(np.float64) * 8) + 132) * 2.0 ** ((code >> 4) & 7) - 132
        return np.where(code & 0x80, -size, size)
    if interpretation == "AB":
        code = samples.astype(np.uint8) ^ np.uint8(0x55)
        exponent = ((code >> 4) & 7).astype(np.float64)
        mantissa = (code & 0x0F).astype(np.float64) * 16 + 8
        size = np.where(exponent == 0, mantissa, (mantissa + 256) * 2.0 ** np.maximum(0, exponent - 1))
        return np.where(code & 0x80, size, -size)
    return samples.astype(np.float64)


def _padding(group: Attributes, kind: np.dtype[np.generic]) -> float | None:
    """Waveform Padding Value (5400,100A): one sample, written as binary."""
    try:
        raw = base64.b64decode(group.get("5400100A", {}).get("InlineBinary", ""))
    except ValueError:
        return None
    return float(np.frombuffer(raw, kind, 1)[0]) if len(raw) >= kind.itemsize else None


def _caption(
    attributes: Attributes, channels: Sequence[Channel], frequency: float, seconds: float, total_s: float
) -> str:
    parts = [f"{_MM_PER_SECOND} mm/s"]
    if any(channel.is_millivolt for channel in channels):
        parts.append(f"{_MM_PER_MILLIVOLT} mm/mV")
    parts.append(f"{frequency:g} Hz")
    if total_s > seconds + 0.01:
        parts.append(f"first {seconds:g} s of {total_s:g} s")
    title = str(first(attributes, "00081030", "") or first(attributes, "00080060", "")).strip()[:60]
    return "   ".join([title, *parts] if title else parts)


def _page(channels: Sequence[Channel], frequency: float, seconds: float, caption: str) -> NDArray[np.uint8]:
    rows = [_row(channel) for channel in channels]
    unit = _MM * _SUPER
    widest = max(lettering.font_for(channel.label, 4 * unit).getlength(channel.label) for channel in channels)
    left_mm = 5 * round(1.5 + widest / unit / 5)  # on a thick line, behind the labels
    width_mm = left_mm + _MARGIN_MM + max(100, round(seconds * _MM_PER_SECOND))
    height_mm = _HEAD_MM + sum(height for height, _, _ in rows) + _MARGIN_MM
    image = Image.new("RGB", (width_mm * unit + 1, height_mm * unit + 1), _PAPER)
    pen = ImageDraw.Draw(image)
    for step, color in ((1, _FINE), (5, _COARSE)):
        for x in range(0, width_mm + 1, step):
            pen.line((x * unit, 0, x * unit, image.height), color, _SUPER)
        for y in range(0, height_mm + 1, step):
            pen.line((0, y * unit, image.width, y * unit), color, _SUPER)
    lettering.write(pen, (_MARGIN_MM * unit, 3 * unit), caption, 4 * unit, _INK)
    top = float(_HEAD_MM)
    for channel, (height, middle, scale) in zip(channels, rows, strict=True):
        _trace(pen, channel, frequency, (left_mm, top + height / 2), middle, scale)
        lettering.write(pen, (2 * unit, (top + height / 2 - 2.5) * unit), channel.label, 4 * unit, _INK)
        if not channel.is_millivolt:
            _range_label(pen, channel, image.width, top)
        top += height
    return np.asarray(image.reduce(_SUPER))


def _row(channel: Channel) -> tuple[int, float, float]:
    """(height in mm, the value in its middle, mm for one unit of the value)."""
    finite = channel.values[np.isfinite(channel.values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if channel.is_millivolt:
        height = min(_ROW_MM[1], max(_ROW_MM[0], round((high - low) * _MM_PER_MILLIVOLT) + 4))
        return height, (low + high) / 2, float(_MM_PER_MILLIVOLT)
    height = _ROW_MM[0] + 5
    return height, (low + high) / 2, (height - 4) / ((high - low) or 1.0)


def _trace(
    pen: ImageDraw.ImageDraw,
    channel: Channel,
    frequency: float,
    start_mm: tuple[float, float],
    middle: float,
    scale: float,
) -> None:
    """start_mm: where time 0 and the value ``middle`` are drawn."""
    unit = _MM * _SUPER
    values = channel.values
    times = np.arange(len(values)) / frequency
    per_pixel = frequency / (_MM_PER_SECOND * unit)
    if per_pixel > 4:  # many samples in one column of pixels: their extremes say all
        block = int(per_pixel)
        whole = len(values) // block * block
        blocks = values[:whole].reshape(-1, block)
        times = np.repeat(times[:whole:block], 2)
        values = np.stack([blocks.min(axis=1), blocks.max(axis=1)], axis=1).reshape(-1)
    x = (start_mm[0] + times * _MM_PER_SECOND) * unit
    # A lead that came off must not be drawn over the whole page.
    offset = np.clip((values - middle) * scale, -_ROW_MM[1] / 2, _ROW_MM[1] / 2)
    y = (start_mm[1] - offset) * unit
    for piece in np.split(np.arange(len(y)), np.flatnonzero(~np.isfinite(y))):
        points = [(float(x[i]), float(y[i])) for i in piece if np.isfinite(y[i])]
        if len(points) > 1:
            pen.line(points, _INK, 2 * _SUPER - 1, joint="curve" if len(points) < 50_000 else None)


def _range_label(pen: ImageDraw.ImageDraw, channel: Channel, width: int, top_mm: float) -> None:
    finite = channel.values[np.isfinite(channel.values)]
    if finite.size:
        text = f"{finite.min():g} to {finite.max():g} {channel.unit}".strip()
        unit = _MM * _SUPER
        length = lettering.font_for(text, 3 * unit).getlength(text)
        lettering.write(pen, (width - _MARGIN_MM * unit - length, top_mm * unit), text, 3 * unit, _INK)
