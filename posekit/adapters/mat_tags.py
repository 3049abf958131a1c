"""Checks the tags of a MATLAB 5 file before scipy reads it.

scipy's compiled reader takes a type number from the file as an index without looking, so that one
wrong byte can crash the process. This walks the tags of the file's plain variables first.
"""

from __future__ import annotations

import struct
import zlib

_HEADER = 128
_COMPRESSED, _MATRIX = 15, 14
_PLAIN_TYPES = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 17, 18}
_MAX_INFLATED = 1 << 31


def check_tags(data: bytes) -> None:
    """Check the tags of every variable of numbers; ValueError if one is not as the format has it.

    Variables of other classes (cells, structures, texts) are not looked into.
    """
    order = "<" if data[126:128] == b"IM" else ">"
    at = _HEADER
    while at < len(data):
        kind, size = _pair(data, at, order)
        body = data[at + 8 : at + 8 + size]
        if len(body) != size:
            raise ValueError("a variable is cut short")
        if kind == _COMPRESSED:
            body = zlib.decompressobj().decompress(body, _MAX_INFLATED)
            kind, size = _pair(body, 0, order)
            body = body[8 : 8 + size]
            at += 8 + len(data[at + 8 : at + 8 + _pair(data, at, order)[1]])
        else:
            at += 8 + size + -size % 8
        if kind != _MATRIX:
            raise ValueError(f"found a variable of type {kind}, expected {_MATRIX}")
        if len(body) >= 16 and 6 <= _pair(body, 8, order)[0] & 0xFF <= 15:
            _check_elements(body, order)


def _check_elements(body: bytes, order: str) -> None:
    at = 0
    while at < len(body):
        first, size = _pair(body, at, order)
        small = first >> 16
        kind = first & 0xFFFF if small else first
        if kind not in _PLAIN_TYPES or small > 4:
            raise ValueError(f"found data of type {kind}, which numbers do not have")
        step = 8 if small else 8 + size + -size % 8
        if at + step > len(body) + 7:
            raise ValueError("an array is cut short")
        at += step


def _pair(data: bytes, at: int, order: str) -> tuple[int, int]:
    if at + 8 > len(data):
        raise ValueError("a tag is cut short")
    first, second = struct.unpack_from(f"{order}II", data, at)
    return first, second
