"""A COCO-style file of many people: first load, reopening, one item, memory of the workers.

    python benchmarks/index_scale.py [--instances 150000] [--keypoints 17] [--workers 4]

Writes the file into a temporary folder (about 0.7 kB a person; annotations have an outline, as
COCO's do) and indexes it in a process of its own, which tells wall and CPU seconds and its peak
memory (with everything that posekit imports; before: the same without). Then workers open the
index, read items at random, and tell how much their memory grew: anonymous memory is theirs alone,
the columns' pages are one copy for all, which the system can drop.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import pickle
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from posekit.config.cards import DatasetCard, dataset_card_from_dict
from posekit.data.index import PoseIndex, build_index

READS = 20_000


def write_file(file: Path, instances: int, keypoints: int, seed: int = 0) -> int:
    """Write images of 2 people on average, in the order of COCO's files; gives bytes written."""
    rng = np.random.default_rng(seed)
    images = max(1, instances // 2)
    with file.open("w") as stream:
        stream.write(
            '{"info": {"year": 2026}, "licenses": [{"id": 1, "name": "none"}], "images": ['
        )
        for i in range(images):
            record = {"id": 7 * i, "file_name": f"{i:012d}.jpg", "height": 480, "width": 640}
            stream.write((", " if i else "") + json.dumps(record))
        stream.write('], "annotations": [')
        names = [f"point_{k}" for k in range(keypoints)]
        for first in range(0, instances, 1000):
            for i in range(first, min(first + 1000, instances)):
                flags = rng.choice([0, 1, 2], keypoints, p=[0.3, 0.1, 0.6])
                points = rng.integers(0, 480, (keypoints, 2)) * (flags > 0)[:, None]
                box = np.round(rng.uniform(1, 300, 4), 2).tolist()
                record = {
                    "segmentation": [np.round(rng.uniform(0, 480, 40), 2).tolist()],
                    "num_keypoints": int((flags > 0).sum()),
                    "area": round(box[2] * box[3] * 0.6, 4),
                    "iscrowd": 0,
                    "keypoints": np.column_stack([points, flags]).ravel().tolist(),
                    "image_id": 7 * int(rng.integers(images)),
                    "bbox": box,
                    "category_id": 1,
                    "id": 1000 + i,
                }
                stream.write((", " if i else "") + json.dumps(record))
        category = {"id": 1, "name": "person", "keypoints": names, "skeleton": []}
        stream.write('], "categories": ' + json.dumps([category]) + "}")
    return file.stat().st_size


def card_of(file: str, keypoints: int) -> DatasetCard:
    """Return a card for the file."""
    data = {
        "name": "many",
        "source": "drawn from a seed",
        "licence": "none",
        "subject": "person",
        "adapter": "coco_json",
        "splits": {"train": {"annotations": file}},
        "evaluator": "pck",
        "schema": {"keypoints": [f"point_{k}" for k in range(keypoints)]},
    }
    return dataset_card_from_dict(data, "many")


def peak_mib() -> float:
    """Peak resident memory of this process up to now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_mib() -> dict[str, float]:
    """Memory of this process now: anonymous, and its share of pages that files back (Linux)."""
    kib: dict[str, int] = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        words = line.split()
        kib[words[0].rstrip(":")] = int(words[1])
    return {"anonymous": kib["Anonymous"] / 1024, "files": kib["Pss_File"] / 1024}


def first_load(root: Path, card: DatasetCard, cache: Path, answers: Any) -> None:
    """Build the index; answers wall and CPU seconds, peak memory before and after."""
    before = peak_mib()
    start, cpu_start = time.perf_counter(), time.process_time()
    build_index(card, root, "train", cache)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    answers.put((seconds, cpu, before, peak_mib()))


def item(index: PoseIndex, row: int) -> tuple[Any, ...]:
    """Read one instance: its image, keypoints, visibility and box."""
    columns = index.columns
    image = columns.image_path[columns.image_index[row]].decode()
    return image, columns.keypoints[row], columns.visibility[row], columns.box_xywh[row]


def worker(pickled: bytes, seed: int, barrier: Any, answers: Any) -> None:
    """Open the index as a loader's worker does, read items; answers growth and CPU time an item."""
    rows = np.random.default_rng(seed).integers(0, 1 << 62, READS)
    before = memory_mib()
    index = pickle.loads(pickled)  # noqa: S301 - our own
    rows = (rows % len(index)).tolist()
    start = time.process_time()
    total = sum(float(item(index, row)[1][0, 0]) for row in rows)
    seconds = time.process_time() - start
    barrier.wait()
    after = memory_mib()
    barrier.wait()
    grown = {name: after[name] - before[name] for name in before}
    answers.put((grown, seconds / READS, total))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=150_000)
    parser.add_argument("--keypoints", type=int, default=17)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    found: dict[str, float] = {"instances": options.instances}
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder, "data"), Path(folder, "cache")
        root.mkdir()
        size = write_file(root / "many.json", options.instances, options.keypoints)
        found["file_mib"] = size / 2**20
        card = card_of("many.json", options.keypoints)
        process = spawn.Process(target=first_load, args=(root, card, cache, answers))
        process.start()
        wall, cpu, before, peak = answers.get()
        found |= {"first_load_s": wall, "first_load_cpu_s": cpu}
        found |= {"first_load_peak_mib": peak, "peak_before_mib": before}
        process.join()
        times = []
        for _ in range(11):
            start = time.perf_counter()
            index = build_index(card, root, "train", cache)
            times.append(time.perf_counter() - start)
        found["reopen_ms"] = statistics.median(times) * 1e3
        found["index_mib"] = sum(f.stat().st_size for f in index.folder.iterdir()) / 2**20
        barrier = spawn.Barrier(options.workers)
        arguments = [(pickle.dumps(index), i, barrier, answers) for i in range(options.workers)]
        processes = [spawn.Process(target=worker, args=one) for one in arguments]
        for process in processes:
            process.start()
        grown = [answers.get() for _ in processes]
        for process in processes:
            process.join()
    found["item_cpu_us"] = statistics.median(seconds for _, seconds, _ in grown) * 1e6
    for kind in ("anonymous", "files"):
        found[f"worker_{kind}_mib"] = statistics.mean(g[kind] for g, _, _ in grown)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:22} {value:12,.2f}")


if __name__ == "__main__":
    main()
