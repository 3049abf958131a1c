"""Cluttered backgrounds, objects in the foreground, and the camera's last touch."""

from __future__ import annotations

import cv2
import numpy as np

from posekit.practice.canvas import Canvas, Part, capsule, hull, random_color, tint


def paint_background(canvas: Canvas, rng: np.random.Generator, clutter: int = 6) -> None:
    """Cover the canvas with a soft gradient, texture and up to `clutter` random things."""
    height, width = canvas.size
    coarse = (rng.integers(80, 190, (3, 4, 1)) + rng.integers(-14, 15, (3, 4, 3))).astype(np.uint8)
    canvas.image[:] = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(clutter // 2, clutter + 1))):
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
    part_id = canvas.begin(Part(-1, "object"))
    color = random_color(rng, (0.1, 0.7), (0.25, 0.9))
    if rng.random() < 0.7:
        canvas.disc(near, size, color, part_id)
        canvas.disc(near - 0.25 * size, 0.45 * size, tint(color, 1.2))
    else:
        reach = np.array([rng.uniform(-0.6, 0.6), 1.0]) * canvas.size[0] * 0.45
        canvas.polygon(capsule(near - reach, near + reach, (0.3 * size,) * 2), color, part_id)


def finish(canvas: Canvas, rng: np.random.Generator, blur: float = 0.0) -> None:
    """Join figures and background as a camera does: light, slight blur, sensor noise."""
    image: np.ndarray = canvas.image
    if blur > 0:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    gain, offset = rng.uniform(0.85, 1.12), rng.uniform(-12, 12)
    noise = rng.integers(0, 13, image.shape, dtype=np.uint8)
    canvas.image = cv2.addWeighted(image, gain, noise, 1.0, offset - 6)


def encode_jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """Return the JPEG bytes of an RGB image, uint8 (H, W, 3)."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:  # pragma: no cover - OpenCV always has a JPEG encoder
        raise RuntimeError("this build of OpenCV cannot write JPEG files")
    return data.tobytes()
