"""Boxes, labels, heatmaps, contact sheets and tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from posekit.drawing.poses import stroke_width
from posekit.drawing.strokes import MIDDLE, OUTLINE, PALETTE, Brush, Colour, draw_line

_SHEET: Colour = (24, 27, 32)
_INK: Colour = (226, 229, 234)


def draw_boxes(
    image: np.ndarray,
    box_xywh: np.ndarray,
    labels: Sequence[str] | None = None,
    colours: Sequence[Colour] | None = None,
) -> np.ndarray:
    """Draw boxes (P, 4), each with its label above it (inside, at the picture's upper edge).

    Colours follow the position in PALETTE if none are given.
    """
    canvas = np.ascontiguousarray(image).copy()
    boxes = np.asarray(box_xywh, dtype=np.float64).reshape(-1, 4)
    colours = colours or [PALETTE[i % len(PALETTE)] for i in range(len(boxes))]
    for box, colour in zip(boxes, colours, strict=True):
        if not np.isfinite(box).all():
            continue
        width = stroke_width(np.empty((0, 2)), box) * 0.6
        x0, y0, x1, y1 = box[0], box[1], box[0] + box[2], box[1] + box[3]
        corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])
        for extra, paint in ((2.0, OUTLINE), (0.0, colour)):
            for a, b in pairwise(corners):
                draw_line(canvas, a, b, Brush(paint, width + extra, outline=False))
    for i, text in enumerate(labels or ()):
        if text and np.isfinite(boxes[i]).all():
            canvas = draw_label(canvas, text, (boxes[i, 0], boxes[i, 1]), colours[i], above=True)
    return canvas


def draw_label(
    image: np.ndarray,
    text: str,
    position: tuple[float, float],
    colour: Colour = MIDDLE,
    *,
    size: int | None = None,
    above: bool = False,
) -> np.ndarray:
    """Write a short text on a dark plate whose upper left corner (lower left, if `above`) is here.

    The plate is moved until it lies inside the picture; `size` is the letters' height in pixels.
    """
    height, width = image.shape[:2]
    size = size or int(np.clip(0.022 * max(height, width), 11, 40))
    font = _font(size)
    left, top, right, bottom = font.getbbox(text)
    pad = max(2, size // 4)
    plate_w, plate_h = int(right - left) + 2 * pad, int(bottom - top) + 2 * pad
    x = int(np.clip(position[0], 0, max(width - plate_w, 0)))
    y = int(np.clip(position[1] - (plate_h if above else 0), 0, max(height - plate_h, 0)))
    picture = Image.fromarray(np.ascontiguousarray(image))
    pen = ImageDraw.Draw(picture)
    pen.rounded_rectangle((x, y, x + plate_w - 1, y + plate_h - 1), radius=pad, fill=OUTLINE)
    pen.text((x + pad - left, y + pad - top), text, fill=tuple(colour), font=font)
    return np.asarray(picture).copy()


def overlay_heatmap(
    image: np.ndarray,
    heatmap: np.ndarray,
    matrix: np.ndarray | None = None,
    strength: float = 0.75,
) -> np.ndarray:
    """Lay a heatmap or an attention map over a picture, more opaque where it is higher.

    Args:
        image: uint8 (H, W, 3) RGB.
        heatmap: (h, w) floats; scaled so that its largest value is opaque; not above zero: unseen.
        matrix: (2, 3), heatmap pixels -> picture pixels; None stretches the map over the picture.
        strength: opacity of the highest value, 0 to 1.
    """
    height, width = image.shape[:2]
    values = np.nan_to_num(np.asarray(heatmap, dtype=np.float32)).clip(min=0)
    values /= max(float(values.max()), 1e-12)
    if matrix is None:
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        values = cv2.warpAffine(values, np.asarray(matrix, dtype=np.float64), (width, height))
    coloured = cv2.applyColorMap((values * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    alpha = (strength * np.sqrt(values))[..., None]
    return (image * (1 - alpha) + coloured * alpha + 0.5).astype(np.uint8)


def beside(*pictures: np.ndarray, gap: int = 4) -> np.ndarray:
    """Set pictures of one height side by side."""
    strip = np.full((pictures[0].shape[0], gap, 3), _SHEET, dtype=np.uint8)
    parts = [part for picture in pictures for part in (strip, picture)]
    return np.concatenate(parts[1:], axis=1)


def crop_view(
    image: np.ndarray, center: np.ndarray, side: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a square out of an image and scale it.

    Args:
        image: uint8 (H, W, 3).
        center: (x, y) of the square's middle; it may reach beyond the image (grey there).
        side: its side in image pixels.
        size: side of the result in pixels.

    Returns:
        uint8 (size, size, 3), and the (2, 3) matrix that takes image points to it.
    """
    side = max(float(side), 8.0)
    x0, y0 = np.floor(np.asarray(center, dtype=float) - side / 2).astype(int)
    reach = int(np.ceil(side))
    height, width = image.shape[:2]
    left, top = np.clip([x0, y0], 0, [width, height])
    right, bottom = np.clip([x0 + reach, y0 + reach], 0, [width, height])
    patch = np.full((reach, reach, 3), 60, dtype=np.uint8)
    if right > left and bottom > top:
        patch[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    method = cv2.INTER_AREA if reach > size else cv2.INTER_CUBIC
    scale = size / reach
    matrix = np.array([[scale, 0, (0.5 - x0) * scale - 0.5], [0, scale, (0.5 - y0) * scale - 0.5]])
    return cv2.resize(patch, (size, size), interpolation=method), matrix


def contact_sheet(
    tiles: Sequence[np.ndarray],
    columns: int,
    captions: Sequence[str] | None = None,
    title: str | None = None,
) -> np.ndarray:
    """Lay pictures out in a grid on a dark ground, each with a caption below it.

    Cells have the size of the largest tile; smaller ones are centred. Captions that are too long
    end in an ellipsis. At least one tile and one column are needed (ValueError).
    """
    if not tiles or columns < 1:
        raise ValueError(f"a contact sheet of {len(tiles)} tiles in {columns} columns")
    columns = min(columns, len(tiles))
    cell_h, cell_w = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    gap, size = 10, int(np.clip(0.055 * cell_h, 12, 22))
    band = int(1.9 * size) if captions else 0
    head = int(2.6 * size) if title else gap
    rows = -(-len(tiles) // columns)
    shape = (head + rows * (cell_h + band + gap), gap + columns * (cell_w + gap), 3)
    sheet = np.full(shape, _SHEET, dtype=np.uint8)
    places = []
    for i, tile in enumerate(tiles):
        y = head + (i // columns) * (cell_h + band + gap)
        x = gap + (i % columns) * (cell_w + gap)
        inner_y, inner_x = y + (cell_h - tile.shape[0]) // 2, x + (cell_w - tile.shape[1]) // 2
        sheet[inner_y : inner_y + tile.shape[0], inner_x : inner_x + tile.shape[1]] = tile
        places.append((x, y + cell_h + size // 3))
    picture = Image.fromarray(sheet)
    pen = ImageDraw.Draw(picture)
    if title:
        _write(pen, (gap, size // 2), title, int(1.2 * size), shape[1] - 2 * gap)
    for place, text in zip(places, captions or (), strict=False):
        _write(pen, place, text, size, cell_w)
    return np.asarray(picture).copy()


def draw_matrix(
    values: np.ndarray,
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
) -> np.ndarray:
    """Draw a table whose cells are coloured by value, from dark (0) to bright (1).

    Args:
        values: (R, C); cells that are NaN keep the ground's colour.
        texts: what the cells show, R lists of C.
        rows, columns: names of the R rows and C columns.
        title: a line above the table.

    Returns:
        uint8 (h, w, 3) RGB, as wide and high as the texts need.
    """
    font, pad, height = _font(17), 12, 46

    def width_of(*texts: str) -> int:
        return int(max(font.getlength(text) for text in texts)) + 2 * pad

    left, top = width_of(*rows), 2 * height
    cell = width_of(*columns, *(text for line in texts for text in line))
    width = max(left + cell * len(columns), width_of(title)) + pad
    sheet = np.full((top + height * len(rows) + pad, width, 3), _SHEET, np.uint8)
    shades = (255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
    colours = cv2.applyColorMap(shades, cv2.COLORMAP_VIRIDIS)[..., ::-1]
    picture = Image.fromarray(sheet)
    pen = ImageDraw.Draw(picture)
    pen.text((pad, height / 2), title, fill=_INK, font=font, anchor="lm")
    for j, name in enumerate(columns):
        x = left + (j + 0.5) * cell
        pen.text((x, top - height / 2), name, fill=_INK, font=font, anchor="mm")
    for i, name in enumerate(rows):
        y = top + i * height
        pen.text((left - pad, y + height / 2), name, fill=_INK, font=font, anchor="rm")
        for j, text in enumerate(texts[i]):
            x, ink = left + j * cell, _INK
            if not np.isnan(values[i, j]):
                colour = tuple(colours[i, j].tolist())
                # one pixel of ground stays between cells
                pen.rectangle((x, y, x + cell - 2, y + height - 2), fill=colour)
                ink = (255, 255, 255) if values[i, j] < 0.6 else (0, 0, 0)
            pen.text((x + cell / 2, y + height / 2), text, fill=ink, font=font, anchor="mm")
    return np.asarray(picture).copy()


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, room: int
) -> None:
    font = _font(size)
    if font.getlength(text) > room:
        while text and font.getlength(text + "\N{HORIZONTAL ELLIPSIS}") > room:
            text = text[:-1]
        text = text.rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    pen.text(place, text, fill=_INK, font=font)


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
