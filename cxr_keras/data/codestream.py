"""What compressed bytes say of the size to which they will grow, before anything is decoded.

A decoder believes the compressed image, not the DICOM header around it: a file of a kilobyte may
ask for gigabytes.
"""

from __future__ import annotations

import zlib

from cxr_keras.errors import ImageError

MAX_INFLATED_BYTES = 1 << 29
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}  # SOF0…15, JPEG-LS' SOF55
_LONG = (b"OB", b"OW", b"OD", b"OF", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV")
_SIZ = b"\xff\x4f\xff\x51"  # a JPEG 2000 codestream begins: SOC, SIZ


def declared_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 image of one component declares.

    None where no header is found, or one of several components.
    """
    if frame.startswith(_SIZ):
        ends = [_number(frame, 8 + 4 * n, 4) for n in range(4)]  # Xsiz Ysiz XOsiz YOsiz
        one = _number(frame, 40, 2) == 1
        return (ends[1] - ends[3], ends[0] - ends[2]) if one else None
    place = 2  # behind the marker that was looked at, at first SOI
    while frame[:2] == b"\xff\xd8" and place + 9 < len(frame) and frame[place] == 0xFF:
        if frame[place + 1] == 0xFF:  # a fill byte
            place += 1
        elif frame[place + 1] in _FRAME_HEADERS:
            one = frame[place + 9] == 1
            return (_number(frame, place + 5, 2), _number(frame, place + 7, 2)) if one else None
        else:
            place += 2 + _number(frame, place + 2, 2)
    return None


def data_start(content: bytes) -> int:
    """Where the data set of a DICOM file begins: behind its file meta information, group 2."""
    place = 132 if content[128:132] == b"DICM" else 0
    while content[place : place + 2] == b"\x02\x00":
        long = content[place + 4 : place + 6] in _LONG
        start, length = (place + 8, 4) if long else (place + 6, 2)
        value = int.from_bytes(content[start : start + length], "little")
        place = start + length + value
    return place


def check_deflated(content: bytes) -> None:
    """Refuse a deflated DICOM file whose data set is more than `MAX_INFLATED_BYTES`, or damaged.

    Raises:
        ImageError: it is.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(content[data_start(content) :], MAX_INFLATED_BYTES)
    except zlib.error:
        raise ImageError("its deflated data are damaged") from None
    if len(inflated) == MAX_INFLATED_BYTES and stream.unconsumed_tail:
        raise ImageError("it inflates to more than an image can hold")


def _number(data: bytes, place: int, length: int) -> int:
    return int.from_bytes(data[place : place + length], "big")
