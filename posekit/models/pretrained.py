"""Fits a foreign ViT's tensors to a backbone: resizes tables and kernels, splits experts off."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NoReturn

import timm
import torch
from torch import Tensor, nn

from posekit.errors import CheckpointError, ConfigError
from posekit.models.foreign import ForeignWeights, input_size_of, read_foreign, sort_tensors
from posekit.models.ledger import Action, Ledger
from posekit.models.vit import PoseViT, ViTBackbone, resize_positions

KernelFit = Literal["pad", "bilinear", "bicubic"]
_FC2 = re.compile(r"(blocks\.\d+\.mlp)\.fc2\.(weight|bias)")
_EXPERT = re.compile(r"(blocks\.\d+\.mlp)\.experts\.(\d+)\.(weight|bias)")


def load_pretrained(backbone: nn.Module, source: str | Path, kernel: KernelFit = "pad") -> Ledger:
    """Load a file's (or a timm model's) weights into a backbone.

    Args:
        backbone: a ViTBackbone.
        source: any file that posekit.models.foreign reads, or the name of a timm model.
        kernel: what to do with a smaller patch kernel: zero padding or resizing.

    Returns:
        What became of every tensor.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
        ConfigError: the backbone is no plain ViT, or timm's weights are not available.
    """
    foreign = _read(source)
    for position, tensors in foreign.heads.items():
        for name in tensors:
            for origin in foreign.origin[position, name]:
                foreign.ledger.leave(origin, "no part of the backbone")
    state = fit_backbone(foreign, backbone, kernel)
    foreign.ledger.check(foreign.sources, (f"backbone.{n}" for n in backbone.state_dict()))
    backbone.load_state_dict(state, strict=False)
    return foreign.ledger


def _read(source: str | Path) -> ForeignWeights:
    name = str(source)
    if Path(name).exists() or not timm.is_model(name.partition(".")[0]):
        return read_foreign(name)
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"backbone: the pretrained weights '{name}' are not available: {reason}"
        ) from None
    return sort_tensors(name, model.state_dict())


def fit_backbone(
    foreign: ForeignWeights,
    backbone: nn.Module,
    kernel: KernelFit = "pad",
) -> dict[str, Tensor]:
    """Return the backbone's state from foreign tensors, and write down what became of each.

    Tensors of the backbone that nothing fills and that have a neutral start (last norm, relative
    position tables, a conv stem) are written down as fresh. A bare ViT's last norm belongs to its
    pre-training: ViTPose's form starts from ones and zeros, timm's own models keep it.

    Args:
        foreign: the tensors; its ledger is written on.
        backbone: the target; only its shapes are read.
        kernel: how to enlarge a smaller patch kernel.

    Raises:
        CheckpointError: a tensor has a shape that cannot be made to fit.
        ConfigError: the backbone is no plain ViT.
    """
    if not isinstance(backbone, ViTBackbone):
        raise ConfigError(
            "backbone: weights from a file or another model fit only plain ViTs; set "
            "pretrained: true for timm's own weights"
        )
    fitter = _Fitter(foreign, backbone, kernel)
    for name, tensor in foreign.backbone.items():
        if name.startswith("norm.") and fitter.norm_is_fresh:
            fitter.leave(name, "norm of the pre-training; the pose model's own starts fresh")
        else:
            fitter.fit(name, tensor)
    fitter.note_fresh()
    return {f"vit.{name}": tensor for name, tensor in fitter.state.items()}


class _Fitter:
    def __init__(self, foreign: ForeignWeights, backbone: ViTBackbone, kernel: KernelFit):
        self.foreign, self.backbone, self.kernel = foreign, backbone, kernel
        self.vit = backbone.vit
        self.norm_is_fresh = foreign.layout == "plain" and isinstance(backbone.vit, PoseViT)
        self.shapes = {name: t.shape for name, t in backbone.vit.state_dict().items()}
        self.state: dict[str, Tensor] = {}

    def fit(self, name: str, tensor: Tensor) -> None:
        if name == "pos_embed":
            self._fit_positions(tensor)
        elif name == "patch_embed.proj.weight" and name in self.shapes:
            self._fit_kernel(tensor)
        elif match := _FC2.fullmatch(name):
            self._fit_fc2(name, match[1], match[2], tensor)
        elif match := _EXPERT.fullmatch(name):
            self._fit_expert(name, match, tensor)
        elif name in self.shapes:
            self.keep(name, tensor)
        elif name == "cls_token":
            self.leave(name, "the model has no class token")
        elif name.startswith("patch_embed."):
            self.leave(name, "the model has another stem")
        else:
            self._fail(name, tensor, "the model has no such tensor")

    def keep(
        self, name: str, tensor: Tensor, action: Action = "used", source: str = "", note: str = ""
    ) -> None:
        if tensor.shape != self.shapes[name]:
            self._fail(name, tensor, f"the model expects {tuple(self.shapes[name])}")
        self.state[name] = tensor
        origin = self.foreign.origin["backbone", source or name]
        if len(origin) > 1 and action == "used":
            action, note = "merged", "query, key and value in one"
        for one in origin:
            self.foreign.ledger.add(action, one, f"backbone.vit.{name}", note)

    def leave(self, name: str, reason: str) -> None:
        for origin in self.foreign.origin["backbone", name]:
            self.foreign.ledger.leave(origin, reason)

    def note_fresh(self) -> None:
        for name in self.shapes:
            if name not in self.state and self._may_start_fresh(name):
                self.foreign.ledger.add("fresh", "", f"backbone.vit.{name}", "starts as built")

    def _may_start_fresh(self, name: str) -> bool:
        if name.startswith("norm."):
            return self.norm_is_fresh
        if name.startswith("patch_embed."):
            return "patch_embed.proj.weight" not in self.shapes
        return "relative" in name

    def _fit_positions(self, table: Tensor) -> None:
        expected = self.shapes.get("pos_embed")
        if expected is None or table.ndim != 3 or table.shape[-1] != expected[-1]:
            self._fail("pos_embed", table, "it does not fit the model's width")
        grid = self.vit.patch_embed.grid_size
        rows = grid[0] * grid[1]
        # PoseViT adds the class row to every patch, so a table without one gets a row of zeros.
        if table.shape[1] == rows and isinstance(self.vit, PoseViT):
            table = torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)
        old = self._source_grid(table.shape[1] - 1)
        if table.shape == expected and old in (None, grid):
            self.keep("pos_embed", table)
            return
        if old is None or expected[1] != rows + 1:
            self._fail("pos_embed", table, f"expected 1 + {rows} rows or 1 + a square grid")
        resized = resize_positions(table, old, grid)
        note = f"from {old[0]}x{old[1]} to {grid[0]}x{grid[1]} tokens, bicubic"
        self.keep("pos_embed", resized, "resized", note=note)

    def _source_grid(self, count: int) -> tuple[int, int] | None:
        """Return the grid of the source's position table: stated, 4:3 (ViTPose's own) or square."""
        stated = input_size_of(self.foreign)
        if stated is not None:
            grid = self.backbone.map_size(stated)
            return grid if grid[0] * grid[1] == count else None
        # 4:3 grids are 4n x 3n, so their number of tokens is 12 n^2.
        step = math.isqrt(count // 12)
        if self.foreign.layout == "official" and 12 * step * step == count:
            return 4 * step, 3 * step
        side = math.isqrt(count)
        return (side, side) if side * side == count else None

    def _fit_kernel(self, weight: Tensor) -> None:
        name = "patch_embed.proj.weight"
        old, new = weight.shape[-1], self.shapes[name][-1]
        if weight.ndim != 4 or old == new:
            self.keep(name, weight)
        elif self.kernel == "pad" and old < new:
            left = (new - old) // 2
            right = new - old - left
            padded = nn.functional.pad(weight, (left, right, left, right))
            self.keep(name, padded, "resized", note=f"zeros around, from {old} to {new} pixels")
        else:
            mode = "bicubic" if self.kernel == "pad" else self.kernel
            resized = nn.functional.interpolate(
                weight, size=(new, new), mode=mode, align_corners=False
            )
            self.keep(name, resized, "resized", note=f"{mode}, from {old} to {new} pixels")

    def _fit_fc2(self, name: str, mlp: str, kind: str, tensor: Tensor) -> None:
        if name not in self.shapes:
            self._fail(name, tensor, "the model has no such tensor")
        shared = self.shapes[name][0]
        first = f"{mlp}.experts.0.{kind}"
        if len(tensor) == shared:
            self.keep(name, tensor)
        elif first in self.shapes and len(tensor) == shared + self.shapes[first][0]:
            note = "cut into the shared part and the start of every expert"
            self.keep(name, tensor[:shared].clone(), "merged", note=note)
            experts = (n for n in self.shapes if re.fullmatch(rf"{mlp}\.experts\.\d+\.{kind}", n))
            for expert in experts:
                self.keep(expert, tensor[shared:].clone(), "merged", source=name, note=note)
        else:
            self._fail(name, tensor, f"the model expects {shared} outputs")

    def _fit_expert(self, name: str, match: re.Match[str], tensor: Tensor) -> None:
        fc2 = self.foreign.backbone.get(f"{match[1]}.fc2.{match[3]}")
        width = self.vit.embed_dim
        if fc2 is not None and len(fc2) == width:
            self.leave(name, "fc2 is whole: this expert was folded into it, or is a leftover")
        elif name in self.shapes:
            self.keep(name, tensor)
        else:
            self._fail(name, tensor, "the model has no such expert")

    def _fail(self, name: str, tensor: Tensor, reason: str) -> NoReturn:
        origin = self.foreign.origin.get(("backbone", name), (name,))[0]
        raise CheckpointError(
            f"{self.foreign.ledger.source_file}: tensor '{origin}' {tuple(tensor.shape)} does not "
            f"fit: {reason}; nothing is loaded"
        )


def count_blocks(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of transformer blocks that some tensors belong to."""
    numbers = [int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")]
    return max(numbers, default=-1) + 1
