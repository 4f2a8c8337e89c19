"""What compressed bytes say of the size to which they will grow, before anything is decoded.

A decoder believes the compressed image, not the DICOM header around it: a file of a kilobyte may
ask for gigabytes.
"""

from __future__ import annotations

import zlib

MAX_INFLATED_BYTES = 1 << 29
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}  # SOF0…15, JPEG-LS' SOF55
_SIZ = b"\xff\x4f\xff\x51"  # a JPEG 2000 codestream begins: SOC, SIZ


def declared_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 image declares.

    None for another compression, or where no header is found.
    """
    start = frame.find(_SIZ)
    if start >= 0 and len(frame) >= start + 24:
        ends = [_number(frame, start + 8 + 4 * n, 4) for n in range(4)]  # Xsiz Ysiz XOsiz YOsiz
        return ends[1] - ends[3], ends[0] - ends[2]
    place = 2  # behind the marker that was looked at, at first SOI
    while frame[:2] == b"\xff\xd8" and place + 9 < len(frame) and frame[place] == 0xFF:
        if frame[place + 1] in _FRAME_HEADERS:
            return _number(frame, place + 5, 2), _number(frame, place + 7, 2)
        place += 2 + _number(frame, place + 2, 2)
    return None


def inflates_to_too_much(content: bytes) -> bool:
    """Whether the deflated data set of a DICOM file is more than `MAX_INFLATED_BYTES`."""
    start = 144 + int.from_bytes(content[140:144], "little")  # behind the file meta information
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(content[start:], MAX_INFLATED_BYTES)
    except zlib.error:
        return False  # the reader says what is wrong
    return len(inflated) == MAX_INFLATED_BYTES and bool(stream.unconsumed_tail)


def _number(data: bytes, place: int, length: int) -> int:
    return int.from_bytes(data[place : place + length], "big")
