"""The settings of whatever decodes, renders and encodes pixels."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import BaseModel, ByteSize

from pacs.setting_kinds import BYTES, COUNT, SECONDS, Bytes, Lower, Positive, Seconds, setting


class PixelSettings(BaseModel):
    imaging_workers: Positive = setting(
        min(4, os.cpu_count() or 1), "Imaging", "Processes that decode, render and transcode.", COUNT, "2"
    )
    imaging_queue: Positive = setting(
        64, "Imaging", "Requests that may wait for such a process; further ones are told to come back.", COUNT, "16"
    )
    imaging_timeout_s: Seconds = setting(
        60.0, "Imaging", "How long one image may take before it is given up.", SECONDS, "20"
    )
    imaging_max_pixels: Positive = setting(
        1 << 28, "Imaging", "Rows times columns of a frame that is decoded at all.", COUNT, "100000000"
    )
    frames_htj2k: Annotated[Literal["asked", "preferred", "ahead"], Lower] = setting(
        "asked",
        "Imaging",
        "When frames go out as lossless HTJ2K in RPCL order, of which the first bytes are a smaller picture. asked: to "
        "clients that name it. preferred: of uncompressed images also to those that leave the transfer syntax open, as "
        "viewers do. ahead: as preferred, and made in the background after an image was stored. Stored files stay as "
        "they came.",
        "asked, preferred or ahead",
        "preferred",
    )
    frames_cache_bytes: Bytes = setting(
        ByteSize(1 << 30),
        "Imaging",
        "How much of DICOM_STORE_ROOTPATH's disk may be taken by frames that were made in another transfer syntax, "
        "kept for whoever asks next. None is added when less than MIN_FREE_BYTES would be left.",
        f"{BYTES}; 0: none is kept",
        "50GiB",
    )
