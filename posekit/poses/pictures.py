"""Poses as pictures: drawn into their images, shown, written, and in a notebook."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from posekit.errors import PosekitError, PredictionError

if TYPE_CHECKING:
    from posekit.poses.table import Poses

_ROWS, _THUMBNAIL = 5, 360


def draw(image: np.ndarray, poses: Poses, threshold: float = 0.0) -> np.ndarray:
    """Draw the poses of one image into it; boxes and identities too if there are several.

    Args:
        image: uint8 (H, W, 3) RGB.
        poses: the poses.
        threshold: keypoints that score less are left out.
    """
    # Not above: an exported model's runtime knows poses, but has no Pillow, which these need.
    from posekit.drawing import PALETTE, PoseStyle, draw_boxes, draw_poses  # noqa: PLC0415

    if len(poses) > 1:
        tags = np.arange(len(poses)) if poses.track_id is None else poses.track_id
        colours = [PALETTE[int(tag) % len(PALETTE)] for tag in tags]
        labels = [] if poses.track_id is None else [f"#{tag}" for tag in tags]
        image = draw_boxes(image, poses.box_xywh, labels, colours)
    style = PoseStyle(threshold=threshold)
    return draw_poses(image, poses.keypoints, poses.schema, scores=poses.scores, style=style)


def plot(poses: Poses, images: Any = None, *, threshold: float = 0.0) -> Any:
    """Return the images with the poses drawn in: uint8 (H, W, 3) RGB, a list if several.

    Args:
        poses: the poses.
        images: what was predicted, one image or one for each name, in any form that `predict`
            takes; None reads the files that `image_names` names.
        threshold: keypoints that score less are left out.

    Raises:
        PredictionError: a name is no file, or an image has another size than the predicted one.
        DatasetError: a file is no image.
    """
    from posekit.data.any_image import is_one_image, load_image  # noqa: PLC0415 - see draw

    names = poses.image_names
    given = names if images is None else [images] if is_one_image(images) else list(images)
    if len(given) != len(names):
        raise PredictionError(
            f"found {len(given)} images, expected one for each of the {len(names)} that the poses "
            "are of"
        )
    pictures = []
    for image, size, (name, part) in zip(given, poses.image_sizes, poses.by_image(), strict=True):
        if images is None and not Path(name).expanduser().is_file():
            raise PredictionError(f"'{name}' is no file here; pass the image: poses.plot(image)")
        pixels = load_image(image, name).pixels
        if any(size) and tuple(size) != pixels.shape[:2]:
            raise PredictionError(
                f"{name}: found an image of {pixels.shape[1]} x {pixels.shape[0]} pixels, expected "
                f"{size[1]} x {size[0]}, the size of the predicted one"
            )
        pictures.append(draw(pixels, part, threshold))
    return pictures[0] if len(pictures) == 1 else pictures


def show(poses: Poses, images: Any = None, *, threshold: float = 0.0) -> None:
    """Show the images with the poses drawn in: in a notebook below the cell, else in a window.

    Args:
        poses: the poses.
        images, threshold: as in `plot`.

    Raises:
        PredictionError: there is no display; or as `plot`.
    """
    from PIL import Image, ImageShow  # noqa: PLC0415 - see draw

    pictures = [Image.fromarray(picture) for picture in _plotted(poses, images, threshold)]
    python = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(python, "kernel", None) is not None:
        for picture in pictures:
            sys.modules["IPython"].display.display(picture)
        return
    has_display = sys.platform in {"darwin", "win32"} or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not has_display or not all(ImageShow.show(picture) for picture in pictures):
        raise PredictionError(
            "there is no display or no viewer here; write the pictures instead: "
            "poses.save('poses.jpg')"
        )


def save_pictures(poses: Poses, file: Path) -> Path:
    """Write the picture of one image, or a folder of that name with one picture per image."""
    from posekit.drawing import write_picture  # noqa: PLC0415 - see draw

    pictures = _plotted(poses)
    if len(pictures) == 1:
        return write_picture(file, pictures[0], quality=92)
    folder = file.with_suffix("")
    stems = [re.sub(r"\.\w+$", "", re.split(r"[/\\]", name)[-1]) for name in poses.image_names]
    for i, (stem, picture) in enumerate(zip(stems, pictures, strict=True)):
        unique = stem if stems.count(stem) == 1 else f"{stem}-{i + 1}"
        write_picture(folder / f"{unique}{file.suffix}", picture, quality=92)
    return folder


def html_of(poses: Poses) -> str:
    """Return a small table, and the first image with its poses where it can be read."""
    head = ["image", *([] if poses.track_id is None else ["track"]), "score", "box x, y, w, h"]
    rows: list[Sequence[str]] = []
    for i in range(min(len(poses), _ROWS)):
        track = [] if poses.track_id is None else [f"#{poses.track_id[i]}"]
        box = ", ".join(f"{side:.0f}" for side in poses.box_xywh[i])
        name = poses.image_names[poses.image_index[i]]
        rows.append([name, *track, f"{poses.instance_scores[i]:.2f}", box])
    lines = [
        f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
        for tag, cells in [("th", head), *(("td", row) for row in rows)]
    ]
    title = escape(str(poses).splitlines()[0])
    more = f"<p>and {len(poses) - _ROWS} more</p>" if len(poses) > _ROWS else ""
    return f"<div><p>{title}</p><table>{''.join(lines)}</table>{more}{_thumbnail(poses)}</div>"


def _thumbnail(poses: Poses) -> str:
    first = next(poses.by_image(), None)
    if first is None:
        return ""
    from posekit.drawing import jpeg_uri  # noqa: PLC0415 - see draw

    try:
        picture = plot(first[1])
    except (PosekitError, OSError):  # a notebook shows the table without it
        return ""
    scale = min(1.0, _THUMBNAIL / max(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return f'<img alt="the first image with its poses" src="{jpeg_uri(small)}">'


def _plotted(poses: Poses, images: Any = None, threshold: float = 0.0) -> list[np.ndarray]:
    found = plot(poses, images, threshold=threshold)
    return found if isinstance(found, list) else [found]
