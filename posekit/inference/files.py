"""Prediction from files to files: photographs, folders, globs and videos."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posekit.config.plug_ins import takes_allow_code
from posekit.data.any_image import LoadedImage, load_image
from posekit.drawing.picture_files import write_picture
from posekit.errors import DatasetError, PredictionError
from posekit.inference.detectors import Detector, open_detector
from posekit.inference.predictor import ALL, PendingImage, Predictor, load
from posekit.inference.video import (
    VIDEO_SUFFIXES,
    Camera,
    Progress,
    VideoOptions,
    camera_number,
    find_boxes,
    predict_video,
)
from posekit.output import write_text
from posekit.poses.boxes import BoxFile
from posekit.poses.fusion import fuse
from posekit.poses.pictures import draw
from posekit.poses.table import Poses

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
_GLOB = frozenset("*?[")


@dataclass
class FilesDone:
    """What a prediction over files did.

    Attributes:
        images, videos: how many were predicted; a camera counts as a video.
        poses: instances found in images.
        already: inputs that an earlier run had done.
        written: the files written, in order.
        failed: input -> a sentence why it was skipped.
        warnings: sentences about results that may not be whole.
    """

    images: int = 0
    videos: int = 0
    poses: int = 0
    already: int = 0
    written: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**vars(self), "written": [str(path) for path in self.written]}


@takes_allow_code
def predict_files(
    model: Predictor | str | Path,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    head: str | None = None,
    boxes: str | Path | None = None,
    detector: str | Path | Detector | None = None,
    options: VideoOptions | None = None,
    progress: Progress | None = None,
    resume: bool = False,
    frames: int | None = None,
    allow_code: bool = False,
) -> FilesDone:
    """Predict photographs, videos and cameras, and write the results into a folder.

    For photo.jpg it writes photo.poses.json (COCO keypoints with scores; with head="all" one such
    entry per head and one for the fused poses) and photo.poses.jpg (the poses drawn in); for
    clip.mp4 clip.poses.jsonl (a line per frame) and clip.poses.mp4. Inputs below a folder keep
    their place below it. A file that cannot be read is skipped and named in the result.
    Memory does not grow with the number of images or frames.

    Args:
        model: a Predictor, or what `load` takes.
        inputs: image and video files, folders (searched in depth), globs, 'camera:0'.
        out: folder for the results.
        head: name of a head; None if there is one only; "all" for every head and their fusion.
        boxes: file with boxes, see BoxFile.
        detector: finds the boxes instead, see `open_detector`; without both, whole images.
        options: drawing, tracking and smoothing.
        progress: called with a name, how many are done and how many there are (None: unknown);
            images count together as "images", each video counts its frames.
        resume: leave out what an earlier run into this folder has done; a video that it stopped in
            goes on at its next frame.
        frames: stop videos and cameras after so many frames.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        PredictionError: no input is found, the boxes fit no input, nothing could be predicted, or
            the earlier run had other settings.
    """
    if boxes is not None and detector is not None:
        raise PredictionError("boxes come from a file or from a detector; give one of the two")
    predictor = model if isinstance(model, Predictor) else load(model)
    predictor.choose(head)
    cameras = [n for n in (camera_number(str(entry)) for entry in inputs) if n is not None]
    found = find_inputs([entry for entry in inputs if camera_number(str(entry)) is None])
    source = _box_source(boxes, detector, str(predictor.device))
    job = _Job(predictor, head, source, options or VideoOptions(), progress, resume, frames)
    _remember(Path(out), job, boxes, detector)
    names = _targets(found, Path(out))
    images = [path for path, _ in found if path.suffix.lower() not in VIDEO_SUFFIXES]
    _predict_images(job, images, names)
    for path in (path for path, _ in found if path.suffix.lower() in VIDEO_SUFFIXES):
        _predict_video(job, path, names[path])
    for number in cameras:
        _predict_video(job, Camera(number), Path(out) / f"camera-{number}.poses")
    done = job.done
    if isinstance(source, BoxFile) and not done.already:
        source.require_used()
    if not (done.images or done.videos or done.already):
        raise PredictionError(next(iter(done.failed.values())))
    return done


@dataclass
class _Job:
    """What the steps of one call share."""

    predictor: Predictor
    head: str | None
    boxes: BoxFile | Detector | None
    options: VideoOptions
    progress: Progress | None
    resume: bool
    frames: int | None
    done: FilesDone = field(default_factory=FilesDone)


def _predict_images(job: _Job, images: Sequence[Path], names: dict[Path, Path]) -> None:
    done, waiting = job.done, list(images)
    if job.resume:
        waiting = [path for path in images if not _json_file(names[path]).is_file()]
        done.already += len(images) - len(waiting)
    for image, heads in job.predictor.stream(_read(waiting, job), job.head):
        poses = fuse(heads) if job.head == ALL else next(iter(heads.values()))
        done.written += _write_image(names[Path(image.name)], image, poses, heads, job.options)
        done.images += 1
        done.poses += len(poses)
        if job.progress is not None:
            job.progress("images", done.images + len(done.failed), len(waiting))


def _predict_video(job: _Job, source: Path | Camera, target: Path) -> None:
    lines, done = target.with_name(f"{target.name}.jsonl"), job.done
    if job.resume and isinstance(source, Path) and lines.is_file():
        done.already += 1
        return
    try:
        video = predict_video(
            job.predictor, source, target, head=job.head, boxes=job.boxes, options=job.options,
            progress=job.progress, resume=job.resume, frames=job.frames,
        )  # fmt: skip
    except PredictionError as error:
        done.failed[str(source if isinstance(source, Path) else source.name)] = str(error)
        return
    done.videos += 1
    done.written += video.written
    done.warnings += [video.warning] if video.warning else []


def _box_source(
    boxes: str | Path | None, detector: str | Path | Detector | None, device: str
) -> BoxFile | Detector | None:
    if isinstance(detector, str | Path):
        return open_detector(detector, device)
    return detector if boxes is None else BoxFile(boxes)


def _remember(
    out: Path, job: _Job, boxes: str | Path | None, detector: str | Path | Detector | None
) -> None:
    """Write the settings beside the results; a resumed run must have the same."""
    name = detector if detector is None or isinstance(detector, str | Path) else detector.name
    settings = {
        "head": job.head,
        "heads": list(job.predictor.heads),
        "boxes": None if boxes is None else str(boxes),
        "detector": None if name is None else str(name),
        "flip_test": job.predictor.flip_test,
        **vars(job.options),
    }
    file = out / "predict.settings.json"
    if job.resume and file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            before = {}
        other = sorted(key for key in settings if before.get(key) != settings[key])
        if other:
            raise PredictionError(
                f"{out}: the run to go on with had another {', '.join(other)} "
                f"({before.get(other[0])!r}, now {settings[other[0]]!r}); give the same or choose "
                "another folder"
            )
    write_text(file, json.dumps(settings, indent=1))


def find_inputs(inputs: Sequence[str | Path]) -> list[tuple[Path, Path]]:
    """Return the image and video files that inputs name, each once, with its place below its input.

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
    """Return the image files that inputs name, each once; PredictionError as `find_inputs`."""
    return [path for path, _ in find_inputs(inputs) if path.suffix.lower() not in VIDEO_SUFFIXES]


def _is_known(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _targets(found: Sequence[tuple[Path, Path]], out: Path) -> dict[Path, Path]:
    """Return each input's results a path without ending; names that meet get a number."""
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


def _read(files: Sequence[Path], job: _Job) -> Iterator[PendingImage]:
    for file in files:
        try:
            image = load_image(file, max_pixels=job.predictor.max_pixels)
            work = find_boxes(job.boxes, image, file)
        except (DatasetError, PredictionError) as error:
            job.done.failed[str(file)] = str(error)
            continue
        yield work


def _json_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _write_image(
    target: Path, image: LoadedImage, poses: Poses, heads: dict[str, Poses], options: VideoOptions
) -> list[Path]:
    data: dict[str, Any] = poses.to_coco()
    if len(heads) > 1:
        each = {name: part.to_coco() for name, part in heads.items()}
        data = {"fused": data, "heads": each}
    text = json.dumps(data, separators=(",", ":"))
    written = []
    if options.overlay:
        picture = draw(image.pixels, poses, options.threshold)
        written.append(write_picture(target.with_name(f"{target.name}.jpg"), picture, quality=92))
    return [write_text(_json_file(target), text), *written]  # last: it marks the image as done
