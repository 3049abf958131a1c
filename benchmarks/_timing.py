"""Alternated timing, one matrix product beside it, and tables for people and for machines."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

Run = Callable[[], Any]


def options(
    description: str | None, *, rounds: int, add: Callable[[argparse.ArgumentParser], object]
) -> argparse.Namespace:
    """Read --rounds, --threads, --json and what `add` adds; sets torch's threads."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds of alternation")
    parser.add_argument("--threads", type=int, default=0, help="torch's threads; 0: all cores")
    parser.add_argument("--json", type=Path, default=None, help="also write the numbers there")
    add(parser)
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    return chosen


def alternate(
    runs: Mapping[str, Run],
    rounds: int,
    warmups: int = 1,
    clock: Callable[[], float] | None = None,
) -> dict[str, list[float]]:
    """Return each run's seconds: every round runs all of them, one after the other.

    Args:
        runs: name -> what to time.
        rounds: how often each is timed.
        warmups: rounds before that do not count.
        clock: what tells the time; by default the wall's, and with one thread (--threads 1) the
            process's CPU time, which others on the machine disturb little.
    """
    if clock is None:
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(-warmups, rounds):
        for name, run in runs.items():
            begun = clock()
            run()
            if number >= 0:
                seconds[name].append(clock() - begun)
    return seconds


def gemm(dtype: torch.dtype, size: int = 1536) -> Run:
    """Return a run of one square matrix product; `gemm_flops` of it each time."""
    left, right = torch.randn(2, size, size).to(dtype)
    return lambda: left @ right


def gemm_flops(size: int = 1536) -> float:
    """Return the floating-point operations of one `gemm` run."""
    return 2.0 * size**3


def summary(seconds: list[float], per: float = 1.0) -> dict[str, float]:
    """Return median, fastest and slowest of some times, each divided by `per`."""
    scaled = [value / per for value in seconds]
    return {"median": statistics.median(scaled), "min": min(scaled), "max": max(scaled)}


def show(
    title: str,
    rows: Mapping[str, Mapping[str, float]],
    *,
    base: str | None,
    unit: str,
    file: Path | None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Print a table of medians with their ratio to one row, and write all of it as JSON.

    Args:
        title: what was measured.
        rows: name -> median, min, max.
        base: the row that ratios are relative to; None or absent for no ratios.
        unit: of the numbers.
        file: where to write the JSON; None writes none.
        notes: further lines: what -> number or sentence.
    """
    print(title)
    known = rows.get(base or "", None)
    width = max(len(name) for name in rows) + 2
    ratio = f"{'x ' + str(base):>24}" if known else ""
    print(f"  {'':{width}}{'median':>10} {'min':>10} {'max':>10} {unit:8}{ratio}")
    for name, row in rows.items():
        line = f"  {name:{width}}{row['median']:10.4g} {row['min']:10.4g} {row['max']:10.4g}"
        line += f" {unit:8}"
        if known:
            line += f"{row['median'] / known['median']:24.3f}"
        print(line)
    for what, value in (notes or {}).items():
        print(f"  {what}: {value:.4g}" if isinstance(value, float) else f"  {what}: {value}")
    if file is not None:
        data = {"title": title, "unit": unit, "base": base, "rows": rows, "notes": notes or {}}
        earlier = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        file.write_text(json.dumps([*earlier, data], indent=1), encoding="utf-8")
