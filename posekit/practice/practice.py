"""Writes the practice datasets: whole folders, atomically, the same bytes for the same seed."""

from __future__ import annotations

import itertools
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posekit.errors import ConfigError, DatasetError, nearest
from posekit.output import atomic_folder
from posekit.practice.formats import LAYOUTS, Shot

PRACTICE_DATASETS = tuple(LAYOUTS)
PRACTICE_VERSION = 2
"""Raised whenever the same seed gives other pictures or labels."""

STAMP = "practice.json"
"""The file in a practice folder that says which seed, sizes and version made it."""

Progress = Callable[[str, int, int], None]
"""Called with a dataset's name, pictures done and pictures in all, over all datasets."""


@dataclass(frozen=True)
class PracticeSizes:
    """At least how many figures each dataset shows in training and in each split for evaluation."""

    train: int = 320
    evaluation: int = 72

    def __post_init__(self) -> None:
        if self.train < 1 or self.evaluation < 1:
            raise ConfigError(
                f"practice sizes: found train {self.train}, evaluation {self.evaluation}, "
                "expected at least 1 each"
            )


def write_practice_data(
    out: Path | str,
    seed: int = 0,
    sizes: PracticeSizes | None = None,
    datasets: Sequence[str] = PRACTICE_DATASETS,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Render practice datasets and write them as folders in their official formats.

    A folder appears only when it is complete. One that is already there with the same seed, sizes
    and version is left as it is. Cost: about 10 ms a picture and core.

    Args:
        out: folder that receives one folder a dataset.
        seed: the same seed gives the same annotation files and pixels, whatever `workers` is.
        sizes: how many figures; the defaults suit a few minutes of training on a laptop.
        datasets: which ones, of PRACTICE_DATASETS.
        workers: processes that draw; 1 draws in this one.
        progress: called after every picture.

    Returns:
        dataset -> its folder.

    Raises:
        ConfigError: an unknown dataset.
        DatasetError: a folder of that name holds something else, or the disk is full.
    """
    out, sizes = Path(out), sizes or PracticeSizes()
    for name in datasets:
        if name not in LAYOUTS:
            raise ConfigError(
                f"there is no practice dataset '{name}'{nearest(name, LAYOUTS)} "
                f"(there are: {', '.join(LAYOUTS)})"
            )
    folders = {name: out / name for name in datasets}
    same = {"version": PRACTICE_VERSION, "seed": seed, "sizes": asdict(sizes)}
    stamps = {name: {"made_by": "posekit.practice", "dataset": name, **same} for name in datasets}
    missing = [name for name in datasets if not _is_ready(folders[name], stamps[name])]
    wanted = {"train": sizes.train, "eval": sizes.evaluation}
    shots = {
        name: [
            shot
            for split, kind in LAYOUTS[name].splits.items()
            for shot in LAYOUTS[name].shots(seed, split, wanted[kind])
        ]
        for name in missing
    }
    total, done = sum(map(len, shots.values())), itertools.count(1)

    def advance(name: str) -> None:
        if progress:
            progress(name, next(done), total)

    with _drawing(workers if total else 1) as draw:
        for name in missing:
            _write_dataset(folders[name], shots[name], stamps[name], draw, advance)
    return folders


def _is_ready(folder: Path, stamp: dict[str, Any]) -> bool:
    """Return whether the folder holds just this practice data; DatasetError if it holds other."""
    if not folder.exists():
        return False
    file = folder / STAMP
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DatasetError(
            folder,
            "a folder or file of this name is already there and is not practice data",
            fix="choose another folder for the practice data",
        ) from None
    if found != stamp:
        found = found if isinstance(found, dict) else {}
        differences = [
            f"{key} {found.get(key)!r}, wanted {value!r}"
            for key, value in stamp.items()
            if found.get(key) != value
        ]
        raise DatasetError(
            folder,
            f"other practice data is already there: {'; '.join(differences)}",
            fix="delete that folder or choose another one",
        )
    return True


_Draw = Callable[[list[tuple[str, Shot, Path]]], Iterator[Any]]


@contextmanager
def _drawing(workers: int) -> Iterator[_Draw]:
    """Return a function that draws jobs in order, here or in `workers` processes."""
    if workers <= 1:
        yield lambda jobs: map(_draw_and_save, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, cv2.setNumThreads, (1,)) as pool:
        yield lambda jobs: pool.map(_draw_and_save, jobs, chunksize=8)


def _draw_and_save(job: tuple[str, Shot, Path]) -> Any:
    name, shot, folder = job
    layout = LAYOUTS[name]
    scene = layout.render(shot)
    (folder / layout.image_file(shot)).write_bytes(encode_jpeg(scene.image))
    return layout.record(shot, scene)


def encode_jpeg(image: np.ndarray) -> bytes:
    """Return the JPEG bytes of an RGB image, uint8 (H, W, 3)."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def _write_dataset(
    folder: Path,
    shots: list[Shot],
    stamp: dict[str, Any],
    draw: _Draw,
    advance: Callable[[str], None],
) -> None:
    layout = LAYOUTS[stamp["dataset"]]
    fix = "free some space (about 40 MB) or choose another folder"
    try:
        with atomic_folder(folder, fix=fix) as partial:
            for place in sorted({(partial / layout.image_file(shot)).parent for shot in shots}):
                place.mkdir(parents=True, exist_ok=True)
            records: dict[str, list[Any]] = {split: [] for split in layout.splits}
            jobs = [(layout.name, shot, partial) for shot in shots]
            for shot, record in zip(shots, draw(jobs), strict=True):
                records[shot.split].append(record)
                advance(layout.name)
            for split in layout.splits:
                layout.write_annotations(partial, split, records[split])
            (partial / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    except BrokenProcessPool as error:
        raise DatasetError(
            folder,
            "the processes that draw the practice data died",
            fix="call it under `if __name__ == '__main__':`, or with workers=1",
        ) from error
    _is_ready(folder, stamp)  # another process may have published other data meanwhile
