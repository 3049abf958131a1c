"""Finding a map's peak and looking at its neighbourhood, for many maps at once.

Decoders need a handful of values around each peak. Blurring only the window that those values
depend on gives the same numbers as blurring the whole map, at a small part of the work.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# OpenCV's kernels for small sizes, used instead of a sampled Gaussian (`getGaussianKernel`).
_SMALL_KERNELS = {
    1: [1.0],
    3: [0.25, 0.5, 0.25],
    5: [0.0625, 0.25, 0.375, 0.25, 0.0625],
    7: [0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125],
    9: [tap / 256 for tap in (4, 13, 30, 51, 60, 51, 30, 13, 4)],
}
_CHUNK = 128


def find_peaks(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return column, row and value of each map's first maximum.

    Args:
        maps: (M, H, W) of any float type.

    Returns:
        int64 x (M,), int64 y (M,) and the value (M,) in the maps' type. A map with NaN gives NaN.

    Cost: one pass over the maps (maxima of chunks), then a look into one chunk of each.
    """
    count, height, width = maps.shape
    flat = maps.reshape(count, height * width)
    length = height * width
    if length % _CHUNK or length <= 2 * _CHUNK:
        index = flat.argmax(1)
        return index % width, index // width, flat.gather(1, index[:, None]).squeeze(1)
    chunks = flat.reshape(count, length // _CHUNK, _CHUNK)
    maxima = chunks.amax(2)
    chunk = maxima.argmax(1)
    first = torch.arange(count, device=maps.device) * chunks.shape[1]
    inside = chunks.reshape(-1, _CHUNK).index_select(0, first + chunk).argmax(1)
    index = chunk * _CHUNK + inside
    return index % width, index // width, maxima.gather(1, chunk[:, None]).squeeze(1)


def windows(maps: Tensor, x0: Tensor, y0: Tensor, height: int, width: int) -> Tensor:
    """Cut one window out of each map.

    Args:
        maps: (M, H, W).
        x0: int64 (M,), first column; the window must lie inside the map.
        y0: int64 (M,), first row.
        height: rows of the window.
        width: columns of the window.

    Returns:
        float32 (M, height, width).
    """
    count, map_height, map_width = maps.shape
    rows = torch.arange(height, device=maps.device)
    start = (torch.arange(count, device=maps.device) * map_height + y0) * map_width + x0
    row_starts = start[:, None] + rows * map_width
    flat = maps.reshape(-1)
    if count and not torch.compiler.is_compiling():
        # Overlapping strips: copies whole rows of the windows instead of single values.
        strips = flat.unfold(0, width, 1).index_select(0, row_starts.reshape(-1))
        return strips.reshape(count, height, width).float()
    columns = torch.arange(width, device=maps.device)
    return flat[row_starts[..., None] + columns].float()


def mass_around(maps: Tensor, x: Tensor, y: Tensor, reach_x: int, reach_y: int) -> Tensor:
    """Return the sum of each map (M, H, W) within reach of its pixel (x, y); float32 (M,)."""
    height, width = maps.shape[1:]
    wide, tall = min(width, 2 * reach_x + 1), min(height, 2 * reach_y + 1)
    left = (x - reach_x).clamp(0, width - wide)
    top = (y - reach_y).clamp(0, height - tall)
    columns = left[:, None] + torch.arange(wide, device=maps.device)
    rows = top[:, None] + torch.arange(tall, device=maps.device)
    near_x = (columns - x[:, None]).abs() <= reach_x
    near_y = (rows - y[:, None]).abs() <= reach_y
    patch = windows(maps, left, top, tall, wide)
    return torch.where(near_y[:, :, None] & near_x[:, None, :], patch, 0.0).sum((1, 2))


def gaussian_sum(sigma: float) -> float:
    """Return the sum of a Gaussian of peak 1 over the pixels within 3 sigma of a pixel's centre."""
    reach = int(3 * sigma)
    return sum(math.exp(-(i**2) / (2 * sigma**2)) for i in range(-reach, reach + 1))


def gaussian_kernel(size: int) -> list[float]:
    """Return OpenCV's Gaussian blur kernel of an odd size with its default sigma; sums to 1.

    sigma = 0.3 ((size - 1) / 2 - 1) + 0.8: 2.0 for size 11.
    """
    if size in _SMALL_KERNELS:
        return _SMALL_KERNELS[size]
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    taps = [math.exp(-((i - size // 2) ** 2) / (2 * sigma**2)) for i in range(size)]
    return [tap / sum(taps) for tap in taps]


def blurred_stencil(
    maps: Tensor, x: Tensor, y: Tensor, reach: int, kernel: list[float], *, reflect: bool
) -> Tensor:
    """Return blurred values around one pixel of each map.

    Args:
        maps: (M, H, W).
        x: int64 (M,), column of the middle.
        y: int64 (M,), row of the middle.
        reach: how many pixels to see on each side of the middle.
        kernel: odd number of symmetric blur weights.
        reflect: what lies beyond the border: the map mirrored about its edge pixel (OpenCV's
            default), or zeros.

    Returns:
        float32 (M, 2 reach + 1, 2 reach + 1), [row, column]. Places outside the map hold the
        blurred value of the nearest pixel inside.

    Cost: M windows of (2 reach + kernel)^2 values, whatever the size of the maps.
    """
    height, width = maps.shape[1:]
    x0, across = _blur_rows(x, width, reach, kernel, reflect)
    y0, down = _blur_rows(y, height, reach, kernel, reflect)
    patch = windows(maps, x0, y0, down.shape[2], across.shape[2])
    return down @ patch @ across.transpose(1, 2)


def blur_matrix(length: int, kernel: list[float], reflect: bool, device: torch.device) -> Tensor:
    """Return the float32 (length, length) matrix that blurs one axis: [blurred place, source].

    With `reflect`, place i beyond the border shows the source j with i = j or i = -j modulo
    2 (length - 1); without it there is nothing beyond the border.
    """
    radius = len(kernel) // 2
    places = torch.arange(length, device=device)
    target, source = places[:, None], places
    taps = torch.tensor([0.0, *kernel, 0.0], device=device)

    def weigh(offset: Tensor) -> Tensor:
        return taps[(offset + radius + 1).clamp(0, 2 * radius + 2)]

    if not reflect:
        return weigh(source - target)
    period = max(2 * (length - 1), 1)
    turns = (radius + length) // period + 1
    inner = (source > 0) & (source < length - 1)
    total = torch.zeros(length, length, device=device)
    for turn in range(-turns, turns + 1):
        total = total + weigh(source - target + turn * period)
        total = total + weigh(-source - target + turn * period) * inner
    return total


def _blur_rows(
    position: Tensor, length: int, reach: int, kernel: list[float], reflect: bool
) -> tuple[Tensor, Tensor]:
    """Return, for one axis, each window's first index and its weights (M, 2 reach + 1, window).

    The weights depend on the position only, so they are made once for every position of the axis
    and then looked up.
    """
    radius = len(kernel) // 2
    window = min(length, 2 * (radius + reach) + 1)
    places = torch.arange(length, device=position.device)
    starts = (places - radius - reach).clamp(0, length - window)
    seen = starts[:, None, None] + torch.arange(window, device=position.device)
    around = torch.arange(-reach, reach + 1, device=position.device)
    middles = (places[:, None] + around).clamp(0, length - 1)[:, :, None]
    table = blur_matrix(length, kernel, reflect, position.device)[middles, seen]
    return starts.index_select(0, position), table.index_select(0, position)
