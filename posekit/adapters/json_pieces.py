"""Reads a large JSON object member by member, and its lists of records in pieces.

Parsing goes through orjson; how it words its errors plays no part. A piece is a span of whole
records, found by trying: the text up to a place where one object ends and the next begins is a
list of whole records exactly if it parses as one, since inside a string or a nested list it
would not be balanced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from posekit.adapters.blocks import NotInBlocks

PIECE = 1 << 17
_BETWEEN = re.compile(rb"\}\s*,\s*\{")
_BLANK = b" \t\r\n"


class JsonMembers:
    """Walks the members of the one object in a JSON file.

    Iterating gives the keys in file order. Before going on, the caller takes the member's value
    by `value` or `skip`, or, for a list of objects, by `pieces`, exhausted. Memory: a piece (its
    text and its objects), or the value.

    Args:
        stream: the file, opened for reading bytes.
        piece: how many bytes of text a piece is made of, about.

    Raises:
        NotInBlocks: (any method) not valid JSON, not one object, a key that appears twice, or a
            list that does not fall apart into records.
    """

    def __init__(self, stream: BinaryIO, piece: int = PIECE):
        self._stream, self._piece = stream, piece
        self.position = 0

    def __iter__(self) -> Iterator[str]:
        if self._at(0, 3) == b"\xef\xbb\xbf" or self._next() != b"{":
            raise NotInBlocks
        seen: set[str] = set()
        self.position += 1
        while self._next() != b"}":
            if seen:
                self._expect(b",")
            key = self.value()
            if not isinstance(key, str) or key in seen:
                raise NotInBlocks
            seen.add(key)
            self._expect(b":")
            self._next()
            yield key
        self.position += 1
        if self._next():
            raise NotInBlocks

    def value(self) -> Any:
        """Return the value that stands here and go past it."""
        self._next()
        size = 1 << 12
        while True:
            data = self._at(self.position, size)
            is_whole = len(data) < size
            try:
                text = data.decode("utf-8", "strict" if is_whole else "ignore")
                value, end = json.JSONDecoder().raw_decode(text)
            except (ValueError, RecursionError):
                end = len(data)
            # A number at the end of the window may go on behind it.
            if end < len(data):
                self.position += len(text[:end].encode())
                return value
            if is_whole:
                raise NotInBlocks
            size *= 4

    def pieces(self) -> Iterator[tuple[list[dict[str, Any]], bytes]]:
        """Return the list of objects that stands here piece by piece, each with its text."""
        if self._next() != b"[":
            raise NotInBlocks
        self.position += 1
        if self._next() == b"]":
            self.position += 1
            return
        is_last = False
        while not is_last:
            records, text, is_last = self._one_piece()
            if not all(type(record) is dict for record in records):
                raise NotInBlocks
            yield records, text

    def skip(self) -> None:
        """Go past the value that stands here, however long it is."""
        start = self.position
        try:
            for _ in self.pieces():
                pass
        except NotInBlocks:
            self.position = start
            self.value()

    def _one_piece(self) -> tuple[list[Any], bytes, bool]:
        size = self._piece
        while True:
            data = b"[" + self._at(self.position, size + self._piece)
            is_whole = len(data) <= size + self._piece
            between = _BETWEEN.search(data, size)
            text = data[: between.start() + 1] + b"]" if between else data
            try:
                records = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                end = _end_of_list(text, error.pos)
                if end is not None:
                    self.position += end - 1
                    return orjson.loads(text[:end]), text[:end], True
            else:
                if between is not None:
                    self.position += between.end() - 2
                    return records, text, False
            if is_whole and between is None:
                raise NotInBlocks
            size *= 2

    def _next(self) -> bytes:
        """Go to the next byte that is not blank and give it; empty at the end of the file."""
        while True:
            data = self._at(self.position, 256)
            rest = data.lstrip(_BLANK)
            self.position += len(data) - len(rest)
            if rest or not data:
                return rest[:1]

    def _expect(self, sign: bytes) -> None:
        if self._next() != sign:
            raise NotInBlocks
        self.position += 1

    def _at(self, position: int, size: int) -> bytes:
        self._stream.seek(position)
        return self._stream.read(size)


def _end_of_list(text: bytes, at: int) -> int | None:
    """Return the length of the list that `text` starts with, if parsing failed just behind it.

    Args:
        text: what was parsed.
        at: how many characters of it were taken before parsing failed.
    """
    if not text.isascii():
        at = len(text.decode("utf-8", "replace")[:at].encode())
    end = len(text[:at].rstrip(_BLANK))
    if text[end - 1 : end] != b"]":
        return None
    try:
        orjson.loads(text[:end])
    except orjson.JSONDecodeError:
        return None
    return end
