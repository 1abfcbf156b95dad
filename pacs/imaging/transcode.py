"""Part 10 files in another transfer syntax."""

from __future__ import annotations

from pathlib import Path

from pacs.imaging.source import Source

# What can be made of every stored instance whose pixels can be decoded, best first.
TARGETS = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")


def can_transcode(source_transfer_syntax_uid: str, transfer_syntax_uid: str) -> bool:
    """Whether ``transcode`` can make the second out of the first."""
    raise NotImplementedError


def transcode(source: Source, destination: Path, transfer_syntax_uid: str) -> None:
    """Write the instance as a Part 10 file at ``destination``, frame by frame.

    Raises NotAcceptable (with what is available) for a target that cannot be made, Undecodable when the pixels cannot
    be decoded, OutOfResources when the disk is full.
    """
    raise NotImplementedError
