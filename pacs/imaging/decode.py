"""Frames as native pixel data."""

from __future__ import annotations

from collections.abc import Sequence

from pacs.imaging.source import Source


def can_decode(transfer_syntax_uid: str) -> bool:
    """Whether frames of this transfer syntax can be made native here."""
    raise NotImplementedError


def decode_frames(source: Source, numbers: Sequence[int]) -> list[bytes]:
    """Frames as Explicit VR Little Endian would hold them. numbers: from 1.

    Raises NotFound for a number beyond the frames, Undecodable when the pixels cannot be decoded.
    """
    raise NotImplementedError
