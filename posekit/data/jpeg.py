"""Whether a JPEG file is whole; decoders paint what is missing grey and say nothing."""

from __future__ import annotations

JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_START_OF_SCAN = 0xDA


def is_truncated_jpeg(data: bytes) -> bool:
    """True if a JPEG's picture data have no end marker; decoders paint the rest grey."""
    if not data.startswith(JPEG_START):
        return False
    scan = _start_of_scan(data)
    return scan < 0 or data.rfind(_JPEG_END, scan) < 0


def _start_of_scan(data: bytes) -> int:
    """Walk over the segments before the picture data, so that a thumbnail's end does not count."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF or data[position + 1] == 0xFF:
            position += 1
        elif data[position + 1] == _START_OF_SCAN:
            return position
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return -1
