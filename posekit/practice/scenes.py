"""Puts figures into pictures: backgrounds, framing, order of depth, occluders, crowds, noise."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from posekit.practice.animal import render_animal
from posekit.practice.canvas import Canvas, FigurePart, capsule, hull, random_color, tint
from posekit.practice.face import render_face, sample_face, solve_face
from posekit.practice.figures import Figure, Label, Scene, label_figure
from posekit.practice.person import render_person

_CROWD = 10_000  # number of the figure that all people of a crowd share
_ATTEMPTS = 6
_LEAST_VISIBLE = 5  # keypoints; a scene with a less visible figure is drawn again


def people_scene(
    rng: np.random.Generator, count: int, size: tuple[int, int], *, crowd: bool = False
) -> Scene:
    """Draw a picture, (height, width), of `count` people; with `crowd` also a far-off crowd."""

    def draw(canvas: Canvas) -> list[Figure]:
        if crowd:
            _draw_crowd(canvas, rng)
        places = _place_people(rng, count, canvas.size)
        figures = [
            render_person(canvas, rng, center, height, number=number)
            for number, (center, height) in enumerate(places)
        ]
        if rng.random() < 0.2:
            _occlude(canvas, rng, figures, rng.uniform(0.03, 0.1))
        return figures

    return _attempt(rng, size, draw, crowd)


def animal_scene(rng: np.random.Generator, count: int, size: tuple[int, int]) -> Scene:
    """Draw a picture, (height, width), of `count` four-legged animals."""

    def draw(canvas: Canvas) -> list[Figure]:
        height, width = canvas.size
        room = width / count
        figures = []
        for number in range(count):
            length = rng.uniform(0.6, 0.98) * min(height, 1.25 * room)
            center = np.array([(number + 0.5) * room, 0.5 * height])
            center += rng.uniform(-0.2, 0.2, 2) * (room, 0.8 * height)
            figures.append(render_animal(canvas, rng, center, length, number=number))
        if rng.random() < 0.15:
            _occlude(canvas, rng, figures, 0.05)
        return figures

    return _attempt(rng, size, draw)


def face_scene(rng: np.random.Generator, count: int, size: tuple[int, int]) -> Scene:
    """Draw a picture, (height, width), of `count` faces.

    Each figure's extras gain "attributes": WFLW's pose, expression, illumination, make-up,
    occlusion and blur, each 0 or 1.
    """
    height, width = size
    room = width / count
    canvas = Canvas(height, width)
    _paint_background(canvas, rng)
    figures = []
    for number in range(count):
        face = sample_face(rng)
        across = rng.uniform(0.3, 0.56) * min(height, 1.1 * room)
        center = np.array([(number + 0.5) * room, 0.5 * height])
        center += rng.uniform(-0.2, 0.2, 2) * (room, height)
        # As far inside the picture as keeps every point in it.
        half = 0.25 * across * np.ptp(solve_face(face)[0][:, :2], axis=0) + 3
        center = np.clip(center, half, (width, height) - half)
        figures.append(render_face(canvas, rng, center, across, number=number, face=face))
    occluded = _occlude(canvas, rng, figures, 0.06) if rng.random() < 0.12 else -1
    dim, blurred = rng.random() < 0.15, rng.random() < 0.12
    if dim:
        left, right = rng.uniform(0.35, 1.1, 2)
        ramp = np.linspace(left, right, width)[None, :, None]
        canvas.image = np.clip(canvas.image * ramp, 0, 255).astype(np.uint8)
    _finish(canvas, rng, 1.4 if blurred else 0.0)
    for figure in figures:
        pose, expression, _, make_up, *_ = figure.extras["attributes"]
        seen = (pose, expression, dim, make_up, figure.number == occluded, blurred)
        figure.extras["attributes"] = [float(value) for value in seen]
    return Scene(canvas.image, _labels(canvas, figures))


def _occlude(canvas: Canvas, rng: np.random.Generator, figures: list[Figure], share: float) -> int:
    """Hide a keypoint behind an object, sized as a share of the picture; return whose it is."""
    figure = figures[int(rng.integers(len(figures)))]
    target = figure.points[int(rng.integers(len(figure.points)))]
    paint_occluder(canvas, rng, target, share * canvas.size[0])
    return figure.number


def _attempt(
    rng: np.random.Generator,
    size: tuple[int, int],
    draw: Callable[[Canvas], list[Figure]],
    crowd: bool = False,
) -> Scene:
    """Draw until every figure shows enough keypoints, a few times at most."""
    for _ in range(_ATTEMPTS):
        canvas = Canvas(*size)
        _paint_background(canvas, rng)
        figures = draw(canvas)
        labels = _labels(canvas, figures)
        least = min((int((label.visibility == 2).sum()) for label in labels), default=0)
        if len(labels) == len(figures) and least >= _LEAST_VISIBLE:
            break
    crowd_mask = canvas.mask_of(_CROWD)
    _finish(canvas, rng, float(rng.uniform(0.0, 0.7)))
    return Scene(canvas.image, labels, crowd_mask if crowd_mask.any() else None)


def _labels(canvas: Canvas, figures: list[Figure]) -> list[Label]:
    labels = (label_figure(canvas, figure) for figure in figures)
    return [label for label in labels if label is not None and label.visibility.any()]


def _place_people(
    rng: np.random.Generator, count: int, size: tuple[int, int]
) -> list[tuple[np.ndarray, float]]:
    """Choose centre and standing height of each person; the far, small ones come first."""
    height, width = size
    room = width / count
    places = []
    for slot in range(count):
        tall = height * rng.uniform(0.5, 0.95 if count == 1 else 0.85)
        y = 0.5 * height + rng.uniform(-0.5, 0.5) * (height - tall)
        if rng.random() < 0.22:  # a close-up, cut off by the picture's edge
            tall = height * rng.uniform(1.1, 1.5)
            y = 0.5 * height + 0.5 * (tall - height) * rng.uniform(0.4, 1.0)
        x = (slot + 0.5 + rng.uniform(-0.35, 0.35)) * room
        places.append((np.array([x, y]), tall))
    return sorted(places, key=lambda place: place[1])


def _draw_crowd(canvas: Canvas, rng: np.random.Generator) -> None:
    height, width = canvas.size
    left, base = rng.uniform(0.0, 0.5) * width, rng.uniform(0.15, 0.3) * height
    for row in range(int(rng.integers(5, 9))):
        center = np.array([left + 0.055 * width * row, base + rng.normal(0, 0.015) * height])
        render_person(canvas, rng, center, height * rng.uniform(0.2, 0.26), number=_CROWD)


def _paint_background(canvas: Canvas, rng: np.random.Generator) -> None:
    """Cover the canvas with a soft gradient, texture and a few random things."""
    height, width = canvas.size
    coarse = (rng.integers(80, 190, (3, 4, 1)) + rng.integers(-14, 15, (3, 4, 3))).astype(np.uint8)
    canvas.image[:] = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(3, 7))):
        center, size = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0.04, 0.22) * height
        color = random_color(rng, (0.02, 0.35), (0.3, 0.85))
        if rng.random() < 0.5:
            canvas.polygon(hull(center + rng.normal(0, size, (6, 2))), color)
        else:  # a bent stick, which a hasty detector takes for a limb
            middle = center + rng.normal(0, 1.6 * size, 2)
            end, radius = middle + rng.normal(0, 1.2 * size, 2), rng.uniform(0.012, 0.035) * height
            canvas.polygon(capsule(center, middle, (radius, 0.8 * radius)), color)
            canvas.polygon(capsule(middle, end, (0.8 * radius, 0.6 * radius)), tint(color, 0.85))
    texture = rng.integers(0, 256, (height // 3, width // 3), dtype=np.uint8)
    grain = cv2.cvtColor(cv2.resize(texture, (width, height)), cv2.COLOR_GRAY2RGB)
    strength = rng.uniform(0.04, 0.12)
    cv2.addWeighted(canvas.image, 1.0, grain, strength, -128 * strength, dst=canvas.image)


def paint_occluder(canvas: Canvas, rng: np.random.Generator, near: np.ndarray, size: float) -> None:
    """Draw a ball or a post in front of everything at `near`; it belongs to no figure."""
    part_id = canvas.begin(FigurePart(-1, "object"))
    color = random_color(rng, (0.1, 0.7), (0.25, 0.9))
    if rng.random() < 0.7:
        canvas.disc(near, size, color, part_id)
        canvas.disc(near - 0.25 * size, 0.45 * size, tint(color, 1.2))
    else:
        reach = np.array([rng.uniform(-0.6, 0.6), 1.0]) * canvas.size[0] * 0.45
        canvas.polygon(capsule(near - reach, near + reach, (0.3 * size,) * 2), color, part_id)


def _finish(canvas: Canvas, rng: np.random.Generator, blur: float = 0.0) -> None:
    """Join figures and background as a camera does: light, slight blur, sensor noise."""
    image: np.ndarray = canvas.image
    if blur > 0:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    gain, offset = rng.uniform(0.85, 1.12), rng.uniform(-12, 12)
    noise = rng.integers(0, 13, image.shape, dtype=np.uint8)
    canvas.image = cv2.addWeighted(image, gain, noise, 1.0, offset - 6)
