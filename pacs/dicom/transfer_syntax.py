"""Transfer syntaxes (PS3.5 Annex A, PS3.6 Table A-1) and what the archive must know of each."""

from __future__ import annotations

from dataclasses import dataclass

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"

OCTET_STREAM = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """One transfer syntax.

    media_type: of one frame as stored (PS3.18 8.7.3.3, Tables 8.7.3-2 to 8.7.3-5). lossy: may be lossy.
    video: one codestream holds all frames, so that frames have no place of their own.
    """

    uid: str
    name: str
    encapsulated: bool = False
    implicit: bool = False
    big_endian: bool = False
    deflated: bool = False
    lossy: bool = False
    video: bool = False
    media_type: str = OCTET_STREAM


def find(uid: str) -> TransferSyntax:
    """The entry for ``uid``; one that is not in the table (private, future) is taken as explicit little endian."""
    return BY_UID.get(uid) or TransferSyntax(uid, "Unknown")


def _encapsulated(uid: str, name: str, media_type: str, *flags: str) -> TransferSyntax:
    return TransferSyntax(
        f"1.2.840.10008.1.2.{uid}",
        name,
        encapsulated=True,
        lossy="lossy" in flags,
        video="video" in flags,
        media_type=media_type,
    )


ALL = (
    TransferSyntax(IMPLICIT_VR_LITTLE_ENDIAN, "Implicit VR Little Endian", implicit=True),
    TransferSyntax(EXPLICIT_VR_LITTLE_ENDIAN, "Explicit VR Little Endian"),
    TransferSyntax(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "Deflated Explicit VR Little Endian", deflated=True),
    TransferSyntax(EXPLICIT_VR_BIG_ENDIAN, "Explicit VR Big Endian", big_endian=True),
    _encapsulated("1.98", "Encapsulated Uncompressed Explicit VR Little Endian", OCTET_STREAM),
    _encapsulated("8.1", "Deflated Image Frame Compression", OCTET_STREAM),
    _encapsulated("5", "RLE Lossless", "image/dicom-rle"),
    _encapsulated("4.50", "JPEG Baseline (Process 1)", "image/jpeg", "lossy"),
    _encapsulated("4.51", "JPEG Extended (Process 2 and 4)", "image/jpeg", "lossy"),
    _encapsulated("4.52", "JPEG Extended (Process 3 and 5)", "image/jpeg", "lossy"),
    _encapsulated("4.53", "JPEG Spectral Selection, Non-Hierarchical (Process 6 and 8)", "image/jpeg", "lossy"),
    _encapsulated("4.54", "JPEG Spectral Selection, Non-Hierarchical (Process 7 and 9)", "image/jpeg", "lossy"),
    _encapsulated("4.55", "JPEG Full Progression, Non-Hierarchical (Process 10 and 12)", "image/jpeg", "lossy"),
    _encapsulated("4.56", "JPEG Full Progression, Non-Hierarchical (Process 11 and 13)", "image/jpeg", "lossy"),
    _encapsulated("4.57", "JPEG Lossless, Non-Hierarchical (Process 14)", "image/jpeg"),
    _encapsulated("4.58", "JPEG Lossless, Non-Hierarchical (Process 15)", "image/jpeg"),
    _encapsulated("4.70", "JPEG Lossless, Non-Hierarchical, First-Order Prediction", "image/jpeg"),
    _encapsulated("4.80", "JPEG-LS Lossless", "image/jls"),
    _encapsulated("4.81", "JPEG-LS Near-Lossless", "image/jls", "lossy"),
    _encapsulated("4.90", "JPEG 2000 Lossless", "image/jp2"),
    _encapsulated("4.91", "JPEG 2000", "image/jp2", "lossy"),
    _encapsulated("4.92", "JPEG 2000 Part 2 Multi-component Lossless", "image/jpx"),
    _encapsulated("4.93", "JPEG 2000 Part 2 Multi-component", "image/jpx", "lossy"),
    _encapsulated("4.110", "JPEG XL Lossless", "image/jxl"),
    _encapsulated("4.111", "JPEG XL JPEG Recompression", "image/jxl", "lossy"),
    _encapsulated("4.112", "JPEG XL", "image/jxl", "lossy"),
    _encapsulated("4.201", "High-Throughput JPEG 2000 Lossless", "image/jphc"),
    _encapsulated("4.202", "High-Throughput JPEG 2000 with RPCL Options Lossless", "image/jphc"),
    _encapsulated("4.203", "High-Throughput JPEG 2000", "image/jphc", "lossy"),
    _encapsulated("4.100", "MPEG2 Main Profile / Main Level", "video/mpeg2", "lossy", "video"),
    _encapsulated("4.100.1", "Fragmentable MPEG2 Main Profile / Main Level", "video/mpeg2", "lossy", "video"),
    _encapsulated("4.101", "MPEG2 Main Profile / High Level", "video/mpeg2", "lossy", "video"),
    _encapsulated("4.101.1", "Fragmentable MPEG2 Main Profile / High Level", "video/mpeg2", "lossy", "video"),
    _encapsulated("4.102", "MPEG-4 AVC/H.264 High Profile", "video/mp4", "lossy", "video"),
    _encapsulated("4.102.1", "Fragmentable MPEG-4 AVC/H.264 High Profile", "video/mp4", "lossy", "video"),
    _encapsulated("4.103", "MPEG-4 AVC/H.264 BD-compatible High Profile", "video/mp4", "lossy", "video"),
    _encapsulated("4.103.1", "Fragmentable MPEG-4 AVC/H.264 BD-compatible", "video/mp4", "lossy", "video"),
    _encapsulated("4.104", "MPEG-4 AVC/H.264 High Profile For 2D Video", "video/mp4", "lossy", "video"),
    _encapsulated("4.104.1", "Fragmentable MPEG-4 AVC/H.264 For 2D Video", "video/mp4", "lossy", "video"),
    _encapsulated("4.105", "MPEG-4 AVC/H.264 High Profile For 3D Video", "video/mp4", "lossy", "video"),
    _encapsulated("4.105.1", "Fragmentable MPEG-4 AVC/H.264 For 3D Video", "video/mp4", "lossy", "video"),
    _encapsulated("4.106", "MPEG-4 AVC/H.264 Stereo High Profile", "video/mp4", "lossy", "video"),
    _encapsulated("4.106.1", "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile", "video/mp4", "lossy", "video"),
    _encapsulated("4.107", "HEVC/H.265 Main Profile", "video/H265", "lossy", "video"),
    _encapsulated("4.108", "HEVC/H.265 Main 10 Profile", "video/H265", "lossy", "video"),
    TransferSyntax("1.2.840.10008.1.2.4.94", "JPIP Referenced"),
    TransferSyntax("1.2.840.10008.1.2.4.95", "JPIP Referenced Deflate", deflated=True),
    TransferSyntax("1.2.840.10008.1.2.4.204", "JPIP HTJ2K Referenced"),
    TransferSyntax("1.2.840.10008.1.2.4.205", "JPIP HTJ2K Referenced Deflate", deflated=True),
)
BY_UID = {syntax.uid: syntax for syntax in ALL}
