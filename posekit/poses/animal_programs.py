"""Poses in the files of animal-pose programs and back: DeepLabCut and SLEAP."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posekit.errors import PredictionError
from posekit.output import atomic_file
from posekit.poses.columns import build, by_column, optional, triples_of, write_rows
from posekit.schema import KeypointSchema

if TYPE_CHECKING:
    from posekit.poses.table import Poses

HDF_ENDINGS = (".h5", ".hdf5", ".hdf")
_FRAME = re.compile(r"(.+), frame (\d+)")


def to_deeplabcut(poses: Poses, file: str | Path, scorer: str = "posekit") -> Path:
    """Write DeepLabCut's table of predictions, .csv or .h5: x, y, likelihood of each body part.

    There is a row per image. Several individuals (tracks, or instances of one image) have the
    header of multi-animal projects; the number of a single track is lost.

    Raises:
        PredictionError: another ending, or .h5 without pandas and PyTables.
    """
    file, (names, place) = Path(file), _individuals(poses)
    table = np.full((len(poses.image_names), len(names), len(poses.schema), 3), np.nan)
    values = triples_of(poses)
    table[poses.image_index, place] = np.where(np.isnan(values[..., :1]), np.nan, values)
    numbers = table.reshape(len(table), -1)
    axes = {
        "scorer": [scorer] * numbers.shape[1],
        "individuals": np.repeat(names, 3 * len(poses.schema)).tolist(),
        "bodyparts": np.repeat(poses.schema.keypoints, 3).tolist() * len(names),
        "coords": ["x", "y", "likelihood"] * (numbers.shape[1] // 3),
    }
    if len(names) == 1:
        del axes["individuals"]
    if file.suffix.lower() == ".csv":
        rows = [[level, *cells] for level, cells in axes.items()]
        for name, row in zip(poses.image_names, numbers, strict=True):
            rows.append([name, *("" if np.isnan(v) else f"{v:.4f}" for v in row)])
        return write_rows(file, rows)
    if file.suffix.lower() not in HDF_ENDINGS:
        raise PredictionError(f"{file}: unknown ending; DeepLabCut's tables are .csv or .h5")
    pandas, _ = (optional(p, "to_deeplabcut", "posekit[tables]") for p in ("pandas", "tables"))
    columns = pandas.MultiIndex.from_arrays(list(axes.values()), names=list(axes))
    frame = pandas.DataFrame(numbers, index=list(poses.image_names), columns=columns)
    # The fixed layout, as PyTables limits the other one's header to 64 KiB: a few hundred columns.
    with atomic_file(file, sync=False, error=PredictionError) as temporary:
        frame.to_hdf(temporary, key="df_with_missing", mode="w", format="fixed")
    return file


def from_deeplabcut(
    cls: type[Poses], file: str | Path, schema: KeypointSchema | None = None
) -> Poses:
    """Read DeepLabCut's table of predictions or labels, .csv or .h5; labels score 1.

    Individuals become `track_id`. Boxes are the extent of the points, image sizes are unknown
    (0, 0), and body parts that belong to no individual are left out.

    Raises:
        DatasetError: another form; names file and place.
    """
    from posekit.adapters.deeplabcut import UNIQUE, individuals, read_labels  # noqa: PLC0415
    from posekit.adapters.fields import Place  # noqa: PLC0415 - see columns

    table = read_labels(Path(file), predictions=True)
    animals = individuals(table)
    if len(animals) > 1:
        animals.pop(UNIQUE, None)
    names = list(next(iter(animals.values())))
    if any(list(parts) != names for parts in animals.values()):
        Place(table.file).fail("its individuals have different body parts, expected the same")
    tracks = _numbered(list(animals)) if len(animals) > 1 else [None]
    rows, values = [], []
    for _, image, numbers in table.rows:
        for track, parts in zip(tracks, animals.values(), strict=True):
            points = numbers[list(parts.values())]
            if np.isfinite(points[:, :2]).any():
                rows.append({"image": image, "track_id": track})
                values.append(np.c_[points, np.ones((len(names), 3 - points.shape[1]))])
    sizes = {image: (0, 0) for _, image, _ in table.rows}
    return build(cls, (schema, names, table.file), by_column(rows), values, sizes)


def to_sleap(poses: Poses, file: str | Path) -> Path:
    """Write SLEAP's .slp with predicted instances, their tracks and scores, by sleap-io.

    Images of one size become a video of images, frames of a clip ("clip.mp4, frame 3") frames of
    it. SLEAP keeps no boxes.

    Raises:
        PredictionError: another ending, or sleap-io is not installed.
    """
    file, schema = Path(file), poses.schema
    if file.suffix.lower() != ".slp":
        raise PredictionError(f"{file}: unknown ending; SLEAP's labels are .slp")
    sleap = optional("sleap_io", "to_sleap", "posekit[lab]")
    skeleton = sleap.Skeleton(list(schema.keypoints), list(schema.skeleton), name=schema.name)
    for pair in schema.flip_pairs:
        skeleton.add_symmetry(*pair)
    ids = [None] * len(poses) if poses.track_id is None else poses.track_id.tolist()
    tracks = {i: sleap.Track(str(i)) for i in ids if i is not None}
    images: dict[Any, list[str]] = {}
    frames: list[tuple[Any, int]] = []
    for name, size in zip(poses.image_names, poses.image_sizes, strict=True):
        clip = _FRAME.fullmatch(name)
        key = (clip[1] if clip else None, size)
        frames.append((key, int(clip[2]) if clip else len(images.get(key, ()))))
        images.setdefault(key, []).append(name)
    videos = {}
    for (clip, size), names in images.items():
        about: dict[str, Any] = {"filename": clip or names[0], "shape": (len(names), *size, 3)}
        about |= {} if clip else {"type": "ImageVideo", "filenames": names}
        video = sleap.Video(clip or names, backend_metadata=about, open_backend=False)
        videos[clip, size] = video
    made: list[list[Any]] = [[] for _ in frames]
    for i, image in enumerate(poses.image_index):
        points, scores, own = poses.keypoints[i], poses.scores[i], float(poses.instance_scores[i])
        one = sleap.PredictedInstance.from_numpy(points, skeleton, scores, own, tracks.get(ids[i]))
        made[image].append(one)
    labels = sleap.Labels(
        [sleap.LabeledFrame(videos[k], n, i) for (k, n), i in zip(frames, made, strict=True)],
        videos=list(videos.values()), skeletons=[skeleton], tracks=list(tracks.values()),
    )  # fmt: skip
    with atomic_file(file, sync=False, error=PredictionError) as temporary:
        sleap.save_slp(labels, str(temporary))
    return file


def from_sleap(cls: type[Poses], file: str | Path, schema: KeypointSchema | None = None) -> Poses:
    """Read SLEAP's .slp (or what else sleap-io loads): labels, and predictions without a label.

    Boxes are the extent of the points; labels score 1.

    Raises:
        DatasetError: sleap-io cannot load it, or it has several skeletons.
        ConfigError: sleap-io is not installed.
    """
    from posekit.adapters.fields import Place  # noqa: PLC0415 - see columns
    from posekit.adapters.sleap import load_labels  # noqa: PLC0415

    place, labels = Place(Path(file)), load_labels(Path(file))
    if len(labels.skeletons) != 1:
        place.fail(f"found {len(labels.skeletons)} skeletons, expected one")
    skeleton = labels.skeletons[0]
    numbers = dict(zip(labels.tracks, _numbered([t.name for t in labels.tracks]), strict=True))
    rows, values, sizes = [], [], {}
    for frame in labels.labeled_frames:
        source, number = frame.video.filename, frame.frame_idx
        image = str(source[number]) if isinstance(source, list) else f"{source}, frame {number}"
        sizes[image] = tuple(map(int, (frame.video.shape or (0, 0, 0))[1:3]))
        for one in (*frame.user_instances, *frame.unused_predictions):
            row = {"image": image, "track_id": numbers.get(one.track)}
            rows.append(row | {"score": getattr(one, "score", np.nan)})
            scores = one.points["score"] if "score" in one.points.dtype.names else 1.0
            values.append(np.c_[one.numpy(), np.broadcast_to(scores, len(one.points))])
    about = (schema, skeleton.node_names, place.file, skeleton.name or "", skeleton.edge_names)
    return build(cls, about, by_column(rows), values, sizes)


def _individuals(poses: Poses) -> tuple[list[str], np.ndarray]:
    """Return the names of DeepLabCut's individuals and the position of each instance's."""
    if poses.track_id is not None and len(poses):
        known, place = np.unique(poses.track_id, return_inverse=True)
        return [f"individual{number}" for number in known], place
    place = np.zeros(len(poses), dtype=np.int64)
    seen: dict[int, int] = {}
    for i, image in enumerate(poses.image_index.tolist()):
        place[i] = seen.get(image, 0)
        seen[image] = int(place[i]) + 1
    return [f"individual{i + 1}" for i in range(place.max(initial=0) + 1)], place


def _numbered(names: Sequence[str]) -> list[int]:
    """Return the numbers at the ends of names, or 1, 2, ... if they do not tell all apart."""
    numbers = [int(end[0]) for name in names if (end := re.search(r"\d+$", name))]
    return numbers if len({*numbers}) == len(names) else list(range(1, len(names) + 1))
