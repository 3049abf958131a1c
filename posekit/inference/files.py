"""Prediction from files to files: photographs, folders, globs and videos."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posekit.errors import DatasetError, PosekitError, PredictionError
from posekit.inference.boxes_file import BoxFile
from posekit.inference.fusion import fuse
from posekit.inference.images import LoadedImage, load_image
from posekit.inference.predictor import ALL, Predictor, Work, check_boxes, load
from posekit.inference.results import Poses
from posekit.inference.video import VIDEO_SUFFIXES, Look, Progress, draw, predict_video

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
_GLOB = frozenset("*?[")


@dataclass
class FilesDone:
    """What a prediction over files did.

    Attributes:
        images, videos: how many were predicted.
        poses: instances found in images.
        written: the files written, in order.
        failed: input -> the sentence that says why it was passed over.
    """

    images: int = 0
    videos: int = 0
    poses: int = 0
    written: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "images": self.images,
            "videos": self.videos,
            "poses": self.poses,
            "written": [str(path) for path in self.written],
            "failed": self.failed,
        }


def predict_files(
    model: Predictor | str | Path,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    head: str | None = None,
    boxes: str | Path | None = None,
    look: Look | None = None,
    progress: Progress | None = None,
) -> FilesDone:
    """Predict photographs and videos, and write the results into a folder.

    For photo.jpg it writes photo.poses.json (COCO keypoints with scores; with head="all" one such
    entry per head and one for the fused poses) and photo.poses.jpg (the poses drawn in); for
    clip.mp4 clip.poses.jsonl (a line per frame) and clip.poses.mp4. Inputs below a folder keep
    their place below it. A file that cannot be read is passed over and named in the result.
    Memory does not grow with the number of images or frames.

    Args:
        model: a Predictor, or what `load` takes.
        inputs: image and video files, folders (searched in depth), globs.
        out: folder for the results.
        head: name of a head; None if there is one only; "all" for every head and their fusion.
        boxes: file with boxes, see BoxFile; the whole image or frame if left out.
        look: drawing, tracking and smoothing.
        progress: called with a name, how many are done and how many there are (None: unknown);
            images count together as "images", each video counts its frames.

    Raises:
        PredictionError: no input is found, the boxes fit no input, or nothing could be predicted.
    """
    predictor = model if isinstance(model, Predictor) else load(model)
    predictor.choose(head)
    look, target = look or Look(), Path(out)
    found = find_inputs(inputs)
    box_file = None if boxes is None else BoxFile(boxes)
    done = FilesDone()
    names = _targets(found, target)
    images = [path for path, _ in found if path.suffix.lower() not in VIDEO_SUFFIXES]
    work = _read(images, box_file, predictor.max_pixels, done)
    for image, heads in predictor.stream(work, head):
        poses = fuse(heads) if head == ALL else next(iter(heads.values()))
        done.written += _write_image(names[Path(image.name)], image, poses, heads, look)
        done.images += 1
        done.poses += len(poses)
        if progress is not None:
            progress("images", done.images + len(done.failed), len(images))
    for path in (path for path, _ in found if path.suffix.lower() in VIDEO_SUFFIXES):
        try:
            done.written += predict_video(
                predictor, path, names[path], head=head, boxes=box_file, look=look,
                progress=progress,
            )  # fmt: skip
            done.videos += 1
        except PredictionError as error:
            done.failed[str(path)] = str(error)
    if box_file is not None:
        box_file.require_used()
    if not (done.images or done.videos):
        raise PredictionError(next(iter(done.failed.values())))
    return done


def find_inputs(inputs: Sequence[str | Path]) -> list[tuple[Path, Path]]:
    """Give the image and video files that inputs name, each once, with its place below its input.

    Raises:
        PredictionError: an input matches no file, or is of a kind that is not known.
    """
    found: dict[Path, Path] = {}
    for entry in inputs:
        path = Path(entry).expanduser()
        if path.is_dir():
            files = [f for f in sorted(path.rglob("*")) if f.is_file() and _is_known(f)]
            pairs = [(file, file.relative_to(path)) for file in files]
        elif path.is_file():
            pairs = [(path, Path(path.name))]
        elif _GLOB & set(str(entry)):
            matches = sorted(glob.glob(str(path), recursive=True))
            pairs = [(Path(m), Path(Path(m).name)) for m in matches if _is_known(Path(m))]
        else:
            raise PredictionError(f"{entry}: there is no such file or folder")
        if not pairs:
            raise PredictionError(
                f"{entry}: found no image or video in it (known endings: "
                f"{', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))})"
            )
        for file, place in pairs:
            found.setdefault(file, place)
    return list(found.items())


def find_images(inputs: Sequence[str | Path]) -> list[Path]:
    """Give the image files that inputs name, each once; PredictionError as `find_inputs`."""
    return [path for path, _ in find_inputs(inputs) if path.suffix.lower() not in VIDEO_SUFFIXES]


def _is_known(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _targets(found: Sequence[tuple[Path, Path]], out: Path) -> dict[Path, Path]:
    """Give each input's results a path without ending; names that meet get a number."""
    taken: set[Path] = set()
    targets = {}
    for file, place in found:
        base = out / place.parent / f"{place.stem}.poses"
        target, number = base, 1
        while target in taken:
            number += 1
            target = base.with_name(f"{place.stem}-{number}.poses")
        taken.add(target)
        targets[file] = target
    return targets


def _read(
    files: Sequence[Path], boxes: BoxFile | None, max_pixels: int, done: FilesDone
) -> Iterator[Work]:
    for file in files:
        try:
            image = load_image(file, max_pixels=max_pixels)
            given = None if boxes is None else boxes.of(file)
            work = Work(image, check_boxes(given, image))
        except (DatasetError, PredictionError) as error:
            done.failed[str(file)] = str(error)
            continue
        yield work


def _write_image(
    target: Path, image: LoadedImage, poses: Poses, heads: dict[str, Poses], look: Look
) -> list[Path]:
    data: dict[str, Any] = poses.to_coco()
    if len(heads) > 1:
        each = {name: part.to_coco() for name, part in heads.items()}
        data = {"fused": data, "heads": each}
    text = json.dumps(data, separators=(",", ":")).encode("utf-8")
    written = [_write(target.with_name(f"{target.name}.json"), text)]
    if look.overlay:
        picture = cv2.cvtColor(draw(image.pixels, poses, look), cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
        written.append(
            _write(target.with_name(f"{target.name}.jpg"), np.asarray(encoded).tobytes())
        )
    return written


def _write(file: Path, data: bytes) -> Path:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    except OSError as error:
        raise PosekitError(f"{file}: cannot be written ({error.strerror})") from None
    return file
