"""One instance as a picture for people, whatever it is: image, film of frames, waveform or contours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pacs.errors import NotAcceptable
from pacs.imaging import annotate, contours, frames, icc, pictures, segments, waveform
from pacs.imaging.forms import Form
from pacs.imaging.options import RenderOptions
from pacs.imaging.render import pixel_aspect, render_pixels, value_range
from pacs.imaging.source import Source, decimal, first

MOST_FRAMES = 240  # of an animation: longer ones leave frames out, evenly
_MOST_PIXELS = 1 << 26
_DEFAULT_DELAY_MS = 100.0
_RANGE_FRAMES = 5


def picture(source: Source, form: Form, number: int | None, options: RenderOptions) -> bytes:
    """An image file of ``options.media_type``. number: of the frame of an image, from 1; None: the one for all.

    Raises NotFound for a frame or pixels that are not there, Undecodable for what cannot be shown, Invalid for a
    viewport outside the picture.
    """
    if form.kind == "image":
        pixels, profile = _frame(source, number or _representative_frame(source), options)
        return pictures.compress(_finished(source, pixels, options), options, profile)
    if form.is_picture:
        pixels, profile = _drawing(source, form, options)
        return pictures.compress(pictures.fitted(pixels, options), options, profile)
    raise NotAcceptable("This is no picture", form.media_types)


def animation(source: Source, options: RenderOptions) -> bytes:
    """All frames of an image as a GIF that plays as they were taken; ``MOST_FRAMES`` of them at most."""
    count = frames.pixels_of(source).number_of_frames
    numbers = _chosen(source, count)
    between = _range_of_all(source, count) if options.window is None else None

    def shown() -> Iterator[NDArray[np.uint8]]:
        for number in numbers:
            pixels, _ = _frame(source, number, options, between)
            yield _finished(source, pixels, options)

    return pictures.animated(shown(), _delays_ms(source, numbers, count))


def _representative_frame(source: Source) -> int:
    """Representative Frame Number (PS3.3 C.7.6.6), else the middle one."""
    count = frames.pixels_of(source).number_of_frames
    said = decimal(first(source.attributes, "00286010"))
    return int(said) if said and 1 <= said <= count else (count + 1) // 2


def _frame(
    source: Source, number: int, options: RenderOptions, between: tuple[float, float] | None = None
) -> tuple[NDArray[np.uint8], bytes | None]:
    pixels = render_pixels(source, number, options.window, between)
    with source.open() as reader:
        if segments.is_segmentation(source) and options.window is None and pixels.ndim == 2:
            labels = None
            if str(source.value("00620001", "")).strip() == "LABELMAP":
                array, _ = frames.frame_array(source, reader, frames.image_of(source), number, lenient=True)
                labels = array[..., 0] if array.dtype.kind == "u" and array.dtype.itemsize <= 2 else None
            pixels = segments.colored(source, number, pixels, labels)
        return icc.convert(source, reader, pixels, options.icc_profile)


def _drawing(source: Source, form: Form, options: RenderOptions) -> tuple[NDArray[np.uint8], bytes | None]:
    with source.open() as reader:
        drawn = waveform.draw(source, reader) if form.kind == "waveform" else contours.draw(source.attributes)
        drawn = annotate.above(drawn, source.attributes, options.annotation)
        return icc.convert(source, reader, drawn, options.icc_profile)


def _finished(source: Source, pixels: NDArray[np.uint8], options: RenderOptions) -> NDArray[np.uint8]:
    aspect = pixel_aspect(source)
    if not options.annotation:
        return pictures.fitted(pixels, options, aspect)
    pixels = pictures.fitted(pixels, options, aspect, annotate.LEGIBLE_SIDE)
    return annotate.write(pixels, source.attributes, options.annotation)


def _chosen(source: Source, count: int) -> list[int]:
    image = frames.image_of(source)
    most = max(1, min(MOST_FRAMES, _MOST_PIXELS // (image.rows * image.columns)))
    if count <= most:
        return list(range(1, count + 1))
    return [1 + place * count // most for place in range(most)]


def _range_of_all(source: Source, count: int) -> tuple[float, float] | None:
    """Lowest and highest value of some frames: each with a range of its own would flicker. None for colour."""
    ranges = [
        value_range(source, number) for number in {1 + place * (count - 1) // _RANGE_FRAMES for place in range(6)}
    ]
    known = [found for found in ranges if found is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def _delays_ms(source: Source, numbers: list[int], count: int) -> list[int]:
    """How long each shown frame stays: Frame Time, Frame Time Vector or a rate (PS3.3 C.7.6.5), 20 ms to 10 s."""
    delay = decimal(first(source.attributes, "00181063"))
    if not delay or delay <= 0:
        vector = [decimal(value) or 0.0 for value in source.attributes.get("00181065", {}).get("Value", ())]
        positive = [value for value in vector if value > 0]
        delay = sum(positive) / len(positive) if positive else None
    for tag in ("00082144", "00180040"):
        rate = decimal(first(source.attributes, tag))
        if not delay and rate and rate > 0:
            delay = 1000 / rate
    delay = delay or _DEFAULT_DELAY_MS
    delay = min(10_000.0, max(20.0, delay))
    # GIF counts hundredths: the whole keeps its length when what one frame loses the next one gains.
    ends = [round((end - 1) * delay / 10) * 10 for end in [*numbers[1:], count + 1]]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
