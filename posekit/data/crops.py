"""From an instance's row to its crop: geometry, one warp, pixel changes, keypoints in the crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from posekit.config.augmentation import NO_AUGMENTATION, AugmentationConfig
from posekit.data.augment import Geometry, KeyedDraws, PixelChange, draw_geometry
from posekit.data.boxes import has_own_crop
from posekit.data.images import read_image
from posekit.data.index import PoseIndex
from posekit.warp import Warp, crop_matrices, crop_size_for, transform_points

_MEAN_COLOUR = (124, 116, 104)
_LUMINANCE = np.array([0.299, 0.587, 0.114])
_GREY, _UNCHANGED = np.tile(_LUMINANCE, (3, 1)), np.eye(3)


@dataclass(frozen=True)
class CropSource:
    """What one head's crops are made from.

    Attributes:
        index: the annotations.
        input_size: (height, width) of the crops in pixels.
        warp: 'plain' or 'udp', as the head's codec says.
        augmentation: how training crops vary; not at all if left out.
        pixels: 'reduced' or 'full', see `posekit.warp.cut_crop`.
    """

    index: PoseIndex
    input_size: tuple[int, int]
    warp: Warp
    augmentation: AugmentationConfig = NO_AUGMENTATION
    pixels: Literal["full", "reduced"] = "reduced"


@dataclass(frozen=True, slots=True)
class Sample:
    """One crop that is to be made: the row, where it lies, how its pixels change."""

    row: int
    geometry: Geometry
    pixels: PixelChange


def exact_boxes(
    index: PoseIndex, rows: np.ndarray, input_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return centre and size of the rows' exact crops: float64 (n, 2) each, padding included."""
    center, size = index.crop_boxes(rows)
    box = index.card.box
    return center, crop_size_for(size, input_size, box.padding, box.keep_aspect)


def draw_samples(
    head: CropSource, rows: np.ndarray, epochs: np.ndarray, draws: KeyedDraws
) -> list[Sample]:
    """Draw how the training crops of some rows look.

    Args:
        head: the head's data.
        rows: (n,) rows of its index.
        epochs: (n,) how often each row was shown before.
        draws: the dataset's random numbers.
    """
    index, columns = head.index, head.index.columns
    center, box_size = index.crop_boxes(rows)
    box = index.card.box
    size = crop_size_for(box_size, head.input_size, box.padding, box.keep_aspect)
    own = has_own_crop(columns, rows)
    keypoints, visibility = columns.keypoints[rows], columns.visibility[rows]
    samples = []
    for i, (row, epoch) in enumerate(zip(rows.tolist(), epochs.tolist(), strict=True)):
        geometry, pixels = draw_geometry(
            head.augmentation,
            index.schema,
            Geometry(center[i], size[i]),
            keypoints[i],
            visibility[i],
            box_size=box_size[i],
            aspect=head.input_size[1] / head.input_size[0],
            has_own_center=bool(own[i]),
            draws=draws,
            epoch=epoch,
            row=row,
        )
        samples.append(Sample(row, geometry, pixels))
    return samples


def image_to_crop(
    geometries: list[Geometry], input_size: tuple[int, int], warp: Warp
) -> np.ndarray:
    """Return the matrices from image to crop pixels, mirroring included: float64 (n, 2, 3).

    A mirrored crop is the crop of the mirrored image: the crop's linear part is applied to
    (-(x - cx), y - cy), which does not depend on the image's width.
    """
    center = np.array([geometry.center for geometry in geometries])
    size = np.array([geometry.size for geometry in geometries])
    angle = np.array([geometry.rotation_deg for geometry in geometries])
    matrices = crop_matrices(center, size, angle, input_size, warp)
    flipped = np.array([geometry.flipped for geometry in geometries])
    matrices[flipped, :, 2] += 2 * matrices[flipped, :, 0] * center[flipped, :1]
    matrices[flipped, :, 0] *= -1
    return matrices


def points_in_crops(
    index: PoseIndex, samples: list[Sample], matrices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return keypoints and visibility of crops, left and right traded in mirrored ones.

    Returns:
        float32 (n, K, 2) in crop pixels, 0 where not labelled, and uint8 (n, K). A keypoint
        outside the crop keeps its visibility; the codec gives it no weight.
    """
    rows = np.array([sample.row for sample in samples])
    visibility = np.asarray(index.columns.visibility[rows])
    points = transform_points(index.columns.keypoints[rows], matrices)
    points[visibility == 0] = 0
    flipped = np.array([sample.geometry.flipped for sample in samples])[:, None]
    swap = index.schema.flip_indices
    points = np.where(flipped[:, :, None], points[:, swap], points)
    visibility = np.where(flipped, visibility[:, swap], visibility)
    return points.astype(np.float32), visibility


def read_row_image(index: PoseIndex, row: int, reduce: int = 1) -> np.ndarray:
    """Read the image of a row: uint8 (h, w, 3) RGB; DatasetError names the file."""
    image = int(index.columns.image_index[row])
    height, width = index.columns.image_size[image].tolist()
    return read_image(index.image_file_at(image), (height, width), reduce=reduce)


def change_pixels(crop: np.ndarray, pixels: PixelChange) -> np.ndarray:
    """Change colours and cover a rectangle of one crop, in place where possible.

    Brightness multiplies, contrast stretches about the crop's mean luminance, saturation mixes
    with the grey image; the three are one linear map of RGB.

    Args:
        crop: uint8 (h, w, 3) RGB.
        pixels: what to do.

    Returns:
        uint8 (h, w, 3).
    """
    if pixels.changes_colour:
        crop = cv2.transform(crop, _colour_matrix(crop, pixels), dst=crop)
    if pixels.erase is not None:
        height, width = crop.shape[:2]
        x, y, w, h = pixels.erase
        left, top = round(x * width), round(y * height)
        right, bottom = round((x + w) * width), round((y + h) * height)
        crop[top:bottom, left:right] = _MEAN_COLOUR
    return crop


def _colour_matrix(crop: np.ndarray, pixels: PixelChange) -> np.ndarray:
    matrix = np.zeros((3, 4))
    matrix[:, :3] = _UNCHANGED
    if pixels.saturation != 1:
        matrix[:, :3] = pixels.saturation * _UNCHANGED + (1 - pixels.saturation) * _GREY
    matrix *= pixels.brightness * pixels.contrast
    if pixels.contrast != 1:
        middle = float(np.dot(cv2.mean(crop)[:3], _LUMINANCE)) * pixels.brightness
        matrix[:, 3] = (1 - pixels.contrast) * middle
    return matrix
