"""Reads the label table of a pandas HDF5 file through h5py: no pandas, no PyTables, no unpickling.

pandas writes column names as pickles into attributes. Only the opcodes that build lists, tuples,
texts and whole numbers pass here; a pickle that holds any other is refused unloaded.
"""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from posekit.adapters.fields import Place
from posekit.adapters.files import open_hdf5

_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_HARMLESS = {"PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "MEMOIZE", *_PUTS}
_HARMLESS |= {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "APPEND"}
_HARMLESS |= {"APPENDS", "GET", "BINGET", "LONG_BINGET", "UNICODE", "BINUNICODE", "BINUNICODE8"}
_HARMLESS |= {"SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_HARMLESS |= {"INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1"}

Frame = tuple[list[tuple[str, ...]], list[tuple[str, ...]], np.ndarray]


def read_frame(file: Path) -> Frame:
    """Read the one pandas frame in an HDF5 file, in its 'table' or its 'fixed' layout.

    Returns:
        column names as tuples of their levels, row names likewise, and float64 (rows, columns).

    Raises:
        DatasetError: not an HDF5 file, no frame or several, or a layout that is not understood.
    """
    place = Place(file)
    with open_hdf5(file, "pandas HDF5", "save it again, or use the CSV") as store:
        groups = [
            node for node in store.values() if hasattr(node, "keys") and "pandas_type" in node.attrs
        ]
        if len(groups) != 1:
            place.fail(f"found {len(groups)} pandas frames, expected one")
        columns, index, values = _table(groups[0]) if "table" in groups[0] else _fixed(groups[0])
        if values.shape != (len(index), len(columns)):
            place.fail(
                f"found values of shape {values.shape} for {len(index)} rows and {len(columns)} "
                "columns"
            )
        return columns, index, values


def parse_names(data: bytes) -> Any:
    """Return what a pickle of lists, tuples, texts and whole numbers says.

    Raises:
        ValueError: the pickle holds anything else, or is damaged; nothing of it was loaded.
    """
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in _HARMLESS:
            raise ValueError(
                f"the pickled names hold the opcode {opcode.name}, which names do not need"
            )
        # The place of a note is the size of the array that holds them all.
        if opcode.name in _PUTS and int(argument or 0) > len(data):
            raise ValueError("the pickled names are damaged")
    try:
        return pickle.loads(data)  # noqa: S301 - of harmless opcodes only
    except (pickle.UnpicklingError, IndexError, AttributeError) as error:
        raise ValueError(f"the pickled names are damaged ({error})") from None


def _table(group: Any) -> Frame:
    table = group["table"]
    rows = table[()]
    blocks = sorted(
        (name for name in rows.dtype.names if name.startswith("values_block_")),
        key=lambda name: int(name.rsplit("_", 1)[1]),
    )
    columns: list[tuple[str, ...]] = []
    for name in blocks:
        columns += [_names(entry) for entry in parse_names(_bytes(table.attrs[f"{name}_kind"]))]
    values = [_numbers(rows[name]).reshape(len(rows), -1) for name in blocks]
    index: list[tuple[str, ...]] = [(text,) for text in _texts(rows["index"])]
    return columns, index, np.concatenate(values, axis=1)


def _fixed(group: Any) -> Frame:
    index = _fixed_axis(group, "axis1")
    columns = _fixed_axis(group, "axis0")
    values = np.full((len(index), len(columns)), np.nan)
    where = {name: position for position, name in enumerate(columns)}
    for block in range(int(group.attrs["nblocks"])):
        items = _fixed_axis(group, f"block{block}_items")
        numbers = _numbers(group[f"block{block}_values"][()])
        values[:, [where[item] for item in items]] = numbers.reshape(len(index), len(items))
    return columns, index, values


def _fixed_axis(group: Any, name: str) -> list[tuple[str, ...]]:
    if name in group:
        return [(text,) for text in _texts(group[name][()])]
    levels: list[list[str]] = []
    while f"{name}_level{len(levels)}" in group:
        at = len(levels)
        texts = _texts(group[f"{name}_level{at}"][()])
        codes = group[f"{name}_label{at}"][()]
        if codes.dtype.kind not in "iu" or (codes < 0).any():
            raise ValueError(f"{name}: its codes are damaged")
        levels.append([texts[int(code)] for code in codes])
    if not levels:
        raise ValueError(f"{name} is missing")
    return list(zip(*levels, strict=True))


def _names(entry: Any) -> tuple[str, ...]:
    if not isinstance(entry, tuple) or not all(isinstance(part, str) for part in entry):
        raise ValueError(f"a column is named {entry!r:.60}, expected texts")
    return entry


def _numbers(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "iuf":
        raise ValueError(f"the table holds {array.dtype}, expected numbers")
    return array.astype(np.float64)


def _texts(array: np.ndarray) -> list[str]:
    return [
        entry.decode("utf-8") if isinstance(entry, bytes) else str(entry)
        for entry in np.asarray(array).tolist()
    ]


def _bytes(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        value = value.tobytes()
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)
