"""Frames as pictures for people."""

from __future__ import annotations

from pacs.imaging.options import RenderOptions, Viewport, Window
from pacs.imaging.source import Source

__all__ = ["RenderOptions", "Viewport", "Window", "render"]


def render(source: Source, number: int, options: RenderOptions) -> bytes:
    """One frame as an image file of ``options.media_type``. number: from 1.

    Raises NotFound when there is no such frame (or no pixels), Undecodable when it cannot be shown.
    """
    raise NotImplementedError
