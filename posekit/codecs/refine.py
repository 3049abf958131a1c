"""From a map's peak pixel to a position between pixels.

Every function takes maps (M, H, W) with the peaks' columns and rows (int64, (M,)) and gives float32
offsets (M, 2), (x, y) in heatmap pixels, to add to the peak. Values that cannot be computed (a flat
or broken neighbourhood) give an offset of 0.

Sources: Zhang et al., CVPR 2020 (DARK); Huang et al., CVPR 2020 (UDP); mmpose 0.x as ViTPose
carries it, and mmpose 1.3.2 where `per_axis` or `rescaled` say so.
"""

from __future__ import annotations

import torch
from torch import Tensor

from posekit.codecs.peaks import blur_matrix, blurred_stencil, gaussian_kernel

_EPSILON = torch.finfo(torch.float32).eps
_FLOOR = 1e-10


def quarter_offsets(maps: Tensor, x: Tensor, y: Tensor, *, per_axis: bool = False) -> Tensor:
    """Return a quarter pixel towards the higher neighbour on each axis.

    Peaks near the border keep their place: on both axes if either coordinate is near it (0.x), or
    judged for each axis by itself (`per_axis`, 1.x).
    """
    count, height, width = maps.shape
    places = torch.stack(
        [
            y * width + (x - 1).clamp_min(0),
            y * width + (x + 1).clamp_max(width - 1),
            (y - 1).clamp_min(0) * width + x,
            (y + 1).clamp_max(height - 1) * width + x,
        ],
        dim=1,
    )
    near = maps.reshape(count, height * width).gather(1, places).float()
    direction = _pair(near[:, 1] - near[:, 0], near[:, 3] - near[:, 2]).sign()
    free_x, free_y = (x > 1) & (x < width - 1), (y > 1) & (y < height - 1)
    each, both = _pair(free_x & (y > 0), free_y & (x > 0)), (free_x & free_y)[:, None]
    return torch.where(each if per_axis else both, 0.25 * direction.nan_to_num(0.0), 0.0)


def dark_offsets(maps: Tensor, x: Tensor, y: Tensor, score: Tensor, kernel_size: int) -> Tensor:
    """Return DARK's Taylor step: second differences at distance 2 of the blurred map's logarithm.

    The blur sees zeros beyond the border, and the blurred map is rescaled to the map's maximum and
    floored at 1e-10 under the logarithm. Peaks less than two pixels from the border keep their
    place.

    Cost: a window of each map. The rescaling drops out of the step unless the floor is touched;
    only those maps (noise) are blurred as a whole. Where that choice cannot be made (in a compiled
    or exported graph), their blurred maximum is that of the 5x5 neighbourhood.
    """
    height, width = maps.shape[1:]
    kernel = gaussian_kernel(kernel_size)
    blurred = blurred_stencil(maps, x, y, 2, kernel, reflect=False)
    largest = blurred.amax((1, 2))
    if not torch.compiler.is_compiling():
        low = (blurred.amin((1, 2)) <= _FLOOR).nonzero().squeeze(1)
        largest[low] = blur_maps(maps[low], kernel, reflect=False).amax((1, 2))
    scale = score.float().clamp_min(0) / largest.clamp_min(torch.finfo(torch.float32).tiny)
    log = (blurred * scale[:, None, None]).clamp_min(_FLOOR).log()
    slope = 0.5 * _pair(log[:, 2, 3] - log[:, 2, 1], log[:, 3, 2] - log[:, 1, 2])
    xx = 0.25 * (log[:, 2, 4] - 2 * log[:, 2, 2] + log[:, 2, 0])
    yy = 0.25 * (log[:, 4, 2] - 2 * log[:, 2, 2] + log[:, 0, 2])
    xy = 0.25 * (log[:, 3, 3] - log[:, 1, 3] - log[:, 3, 1] + log[:, 1, 1])
    free = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    return torch.where(free[:, None], _newton_step(slope, xx, xy, yy), 0.0)


def dark_udp_offsets(
    maps: Tensor, x: Tensor, y: Tensor, score: Tensor, kernel_size: int, *, rescaled: bool = False
) -> Tensor:
    """Return DARK's Taylor step as UDP takes it: first neighbours, also at the border.

    0.x blurs with a reflected border; 1.x (`rescaled`) with zeros beyond it, and then rescales so
    that each map keeps its maximum, for which the whole maps must be blurred (slow). The logarithm
    is taken of values clipped to [0.001, 50].
    """
    kernel = gaussian_kernel(kernel_size)
    blurred = blurred_stencil(maps, x, y, 1, kernel, reflect=not rescaled)
    if rescaled:
        largest = blur_maps(maps, kernel, reflect=False).amax((1, 2))
        blurred = blurred * (score.float() / largest)[:, None, None]
    log = blurred.clamp(0.001, 50.0).log()  # an int bound breaks ONNX export
    left, right, above, below = log[:, 1, 0], log[:, 1, 2], log[:, 0, 1], log[:, 2, 1]
    middle = log[:, 1, 1]
    slope = 0.5 * _pair(right - left, below - above)
    xx = right - 2 * middle + left + _EPSILON
    yy = below - 2 * middle + above + _EPSILON
    xy = 0.5 * (log[:, 2, 2] - right - below + 2 * middle - left - above + log[:, 0, 0])
    return _newton_step(slope, xx, xy, yy)


def mean_positions(maps: Tensor) -> Tensor:
    """Return the mean position (M, 2) of each map's positive mass (soft-argmax).

    Source: Sun et al., ECCV 2018 (integral regression), without its debiasing.
    """
    mass = maps.float().clamp_min(0)
    columns, rows = mass.sum(1), mass.sum(2)
    total = columns.sum(1).clamp_min(torch.finfo(torch.float32).tiny)
    x = (columns * torch.arange(columns.shape[1], device=maps.device)).sum(1) / total
    y = (rows * torch.arange(rows.shape[1], device=maps.device)).sum(1) / total
    return torch.stack([x, y], dim=1).nan_to_num(0.0, 0.0, 0.0)


def blur_maps(maps: Tensor, kernel: list[float], reflect: bool) -> Tensor:
    """Blur whole maps (M, H, W); `reflect` and border as in `blurred_stencil`; float32.

    Cost: M H W (H + W) multiplications, as two products with a band matrix.
    """
    height, width = maps.shape[1:]
    across = blur_matrix(width, kernel, reflect, maps.device)
    down = blur_matrix(height, kernel, reflect, maps.device)
    return down @ maps.float() @ across.T


def _pair(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x, y], dim=1)


def _newton_step(slope: Tensor, xx: Tensor, xy: Tensor, yy: Tensor) -> Tensor:
    """Solve Hessian step = -slope for each of the M; 0 where the Hessian is singular."""
    determinant = xx * yy - xy * xy
    step = _pair(xy * slope[:, 1] - yy * slope[:, 0], xy * slope[:, 0] - xx * slope[:, 1])
    step = step / determinant[:, None]
    return torch.where(torch.isfinite(step), step, 0.0)
