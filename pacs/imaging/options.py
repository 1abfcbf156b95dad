"""What may be asked of a rendering. Plain values, importable without any codec or numpy."""

from __future__ import annotations

from dataclasses import dataclass

from pacs.errors import Invalid, NotAcceptable

MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif")
WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
ANNOTATIONS = ("patient", "technique")
ICC_PROFILES = ("no", "yes", "srgb", "adobergb", "rommrgb")
MAX_SIDE = 16384


@dataclass(frozen=True, slots=True)
class Window:
    """Grey window in modality units (PS3.3 C.11.2.1.2). function: LINEAR, LINEAR_EXACT or SIGMOID.

    Raises Invalid for an unknown function or a width that the function does not allow.
    """

    center: float
    width: float
    function: str = "LINEAR"

    def __post_init__(self) -> None:
        if self.function not in WINDOW_FUNCTIONS:
            raise Invalid(f"window function must be one of {', '.join(WINDOW_FUNCTIONS)}", "window")
        if not abs(self.center) < 1e30 or not 0 < self.width < 1e30 or (self.function == "LINEAR" and self.width < 1):
            raise Invalid("window center must be a number, and width at least 1 (more than 0 unless LINEAR)", "window")


@dataclass(frozen=True, slots=True)
class Viewport:
    """Where the rendering goes and which part of the image it shows (PS3.18 8.3.5.1.3).

    width, height: pixels of the viewport; the region is scaled to fit into it, its aspect ratio kept.
    source_*: region of the frame in pixels; absent: from the corner to the far edges. A negative source_width flips
    horizontally, a negative source_height vertically. Raises Invalid for sizes that mean nothing.
    """

    width: int
    height: int
    source_x: float = 0
    source_y: float = 0
    source_width: float | None = None
    source_height: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.width <= MAX_SIDE and 0 < self.height <= MAX_SIDE):
            raise Invalid(f"viewport width and height must be 1 to {MAX_SIDE}", "viewport")
        region = (self.source_x, self.source_y, self.source_width or 1, self.source_height or 1)
        if not all(abs(number) < 1e9 for number in region) or 0 in (self.source_width, self.source_height):
            raise Invalid("the viewport's region must be numbers, its width and height not 0", "viewport")


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """quality: 1 to 100, for image/jpeg. max_size: pixels of the longer side at most (thumbnails).

    annotation: what is written onto the picture, of ``ANNOTATIONS`` (PS3.18 8.3.5.1.1). icc_profile: of
    ``ICC_PROFILES`` (8.3.5.1.5); "no" is sRGB without saying so, "yes" the image's own colours with its own profile.
    """

    media_type: str = "image/jpeg"
    quality: int = 90
    window: Window | None = None
    viewport: Viewport | None = None
    max_size: int | None = None
    annotation: tuple[str, ...] = ()
    icc_profile: str = "no"

    def __post_init__(self) -> None:
        if self.media_type not in MEDIA_TYPES:
            raise NotAcceptable(f"cannot render as {self.media_type}", MEDIA_TYPES)
        if not 1 <= self.quality <= 100:
            raise Invalid("quality must be 1 to 100", "quality")
        if self.max_size is not None and self.max_size < 1:
            raise Invalid("max_size must be at least 1", "max_size")
        if not set(self.annotation) <= set(ANNOTATIONS):
            raise Invalid(f"annotation must be one or more of {', '.join(ANNOTATIONS)}", "annotation")
        if self.icc_profile not in ICC_PROFILES:
            raise Invalid(f"iccprofile must be one of {', '.join(ICC_PROFILES)}", "iccprofile")
