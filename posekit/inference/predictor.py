"""Predictor: keypoints in images by a model's heads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch

from posekit.config.cards import BoxCard
from posekit.config.plug_ins import takes_allow_code
from posekit.data.any_image import MAX_PIXELS, LoadedImage, is_one_image, load_images
from posekit.errors import CheckpointError, PredictionError, nearest
from posekit.inference.hub import MODEL_FILE, fetch_model, is_address
from posekit.models import PoseModel, load_model, read_description
from posekit.models.predict import predict_crops
from posekit.poses.fusion import fuse, union_schema
from posekit.poses.table import Poses, join
from posekit.schema import KeypointSchema
from posekit.warp import check_boxes, cut_boxes

ALL = "all"
_MOST_WAITING_BYTES = 1 << 28


class HeadPoses(dict[str, Poses]):
    """Every head's poses of the same instances; `fused` joins them."""

    @property
    def fused(self) -> Poses:
        """The poses on the union skeleton; disagreement between heads lowers confidence."""
        return fuse(self)

    def __repr__(self) -> str:
        return "\n".join(str(poses) for poses in self.values())


@dataclass(frozen=True)
class PendingImage:
    """An image whose boxes (N, 4) are still to be predicted, with a detector's scores (N,)."""

    image: LoadedImage
    box_xywh: np.ndarray
    box_scores: np.ndarray | None = None


class Predictor:
    """Predicts keypoints in images with the heads of a model.

    Crops become keypoints by `posekit.models.predict`, as in the evaluation, so that the same boxes
    give the same keypoints. Heads that share input size, warp and box rule share crops and, if the
    backbone has no experts, one backbone pass.

    Args:
        model: the model; put into evaluation mode on `device`.
        boxes: head -> how crops are made around boxes; the usual rule (1.25, aspect kept) for
            heads that are not named.
        device: "cpu", "cuda", ...; None takes an accelerator if there is one.
        batch_size: crops in one forward pass.
        flip_test: average with the mirrored crop, as most protocols do; twice the time.
        max_pixels: larger images are refused.
    """

    def __init__(
        self,
        model: PoseModel,
        boxes: Mapping[str, BoxCard] | None = None,
        *,
        device: str | torch.device | None = None,
        batch_size: int = 32,
        flip_test: bool = False,
        max_pixels: int = MAX_PIXELS,
    ):
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.boxes = {name: (boxes or {}).get(name, BoxCard()) for name in model.head_names}
        self.codecs = {name: model.head(name).codec for name in model.head_names}
        self.batch_size, self.flip_test, self.max_pixels = batch_size, flip_test, max_pixels

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the model's heads."""
        return self.model.head_names

    def __repr__(self) -> str:
        heads = ", ".join(f"{name} ({len(self.model.head(name).schema)})" for name in self.heads)
        millions = sum(part.numel() for part in self.model.parameters()) / 1e6
        size = f"{millions:.1f} M parameters on {self.device}"
        return f"Predictor with {size}; heads (keypoints): {heads}"

    @overload
    def predict(self, images: Any, boxes: Any = None, head: Literal["all"] = ...) -> HeadPoses: ...

    @overload
    def predict(self, images: Any, boxes: Any = None, head: str | None = None) -> Poses: ...

    def predict(self, images: Any, boxes: Any = None, head: str | None = None) -> Poses | HeadPoses:
        """Predict the keypoints of every box in one or many images.

        Args:
            images: a path, array (H, W, 3) uint8 RGB, PIL image or tensor (3, H, W), or several
                of them; see `posekit.data.any_image.load_image`.
            boxes: x, y, width, height in pixels: (4,) or (N, 4) for one image, a sequence with one
                such array (or None) per image for several. None is the whole image. A box may
                reach beyond its image but must touch it; an image without boxes has no poses.
            head: name of a head; None if the model has only one; "all" for every head.

        Returns:
            Poses, or with head="all" a mapping head -> Poses with the property `fused`.

        Raises:
            PredictionError: an unknown head, boxes of a wrong number or form, an unusable image.
            DatasetError: an image file that is missing or damaged.
        """
        heads = self.choose(head)
        one = is_one_image(images)
        sequence = [images] if one else list(images)
        given = [boxes] if one else _one_per_image(boxes, len(sequence))
        loaded = load_images(sequence, self.max_pixels)
        pending = (
            PendingImage(image, check_boxes(b, image.size, image.name))
            for image, b in zip(loaded, given, strict=True)
        )
        collected = HeadPoses(self._collect(pending, heads))
        return collected if head == ALL else collected[heads[0]]

    def stream(
        self,
        pending: Iterable[PendingImage],
        head: str | None = None,
        *,
        images_at_once: int | None = None,
    ) -> Iterator[tuple[LoadedImage, dict[str, Poses]]]:
        """Yield each image with its poses, in constant memory however many images there are.

        Crops of several images share a batch; an image waits only until its batch is full.

        Args:
            pending: images with their boxes (N, 4), as from `posekit.warp.check_boxes`.
            head: as in `predict`.
            images_at_once: predict after this many images even if the batch is not full, for
                images that arrive one by one (a camera).
        """
        heads = self.choose(head)
        waiting: list[PendingImage] = []
        count = held = 0
        for item in pending:
            waiting.append(item)
            count += len(item.box_xywh)
            held += item.image.pixels.nbytes
            full = count >= self.batch_size or held > _MOST_WAITING_BYTES
            if full or len(waiting) == images_at_once:
                yield from self._finish(waiting, heads)
                waiting, count, held = [], 0, 0
        if waiting:
            yield from self._finish(waiting, heads)

    @property
    def schema(self) -> KeypointSchema:
        """The keypoints that it predicts; of several heads every name once."""
        schemas = [self.model.head(name).schema for name in self.heads]
        return schemas[0] if len(schemas) == 1 else union_schema(schemas)

    def choose(self, head: str | None) -> tuple[str, ...]:
        """Return the heads that a `head` argument names; PredictionError lists those there are."""
        if head == ALL:
            return self.heads
        if head is None and len(self.heads) == 1:
            return self.heads
        names = ", ".join((*self.heads, ALL))
        if head is None:
            raise PredictionError(f"this model has several heads; choose one with head= ({names})")
        if head not in self.heads:
            raise PredictionError(
                f"this model has no head '{head}'{nearest(head, self.heads)} (heads: {names})"
            )
        return (head,)

    def _collect(self, pending: Iterable[PendingImage], heads: tuple[str, ...]) -> dict[str, Poses]:
        parts: dict[str, list[Poses]] = {name: [] for name in heads}
        chosen = ALL if len(heads) > 1 else heads[0]
        for _, poses in self.stream(pending, chosen):
            for name in heads:
                parts[name].append(poses[name])
        if any(parts.values()):
            return {name: join(parts[name]) for name in heads}
        return {
            name: self._poses(name, (), *nothing, np.zeros((0, 4)), None)
            for name, nothing in self._predict_boxes([], heads).items()
        }

    def _poses(
        self,
        head: str,
        images: Sequence[LoadedImage],
        points: np.ndarray,
        scores: np.ndarray,
        box_xywh: np.ndarray,
        box_scores: np.ndarray | None,
    ) -> Poses:
        return Poses(
            head=head,
            schema=self.model.head(head).schema,
            keypoints=points,
            scores=scores,
            box_xywh=box_xywh,
            box_scores=np.ones(len(box_xywh)) if box_scores is None else box_scores,
            image_index=np.zeros(len(box_xywh), dtype=np.int64),
            image_names=tuple(image.name for image in images),
            image_sizes=tuple(image.size for image in images),
        )

    def _finish(
        self, waiting: list[PendingImage], heads: tuple[str, ...]
    ) -> Iterator[tuple[LoadedImage, dict[str, Poses]]]:
        found = self._predict_boxes(waiting, heads)
        start = 0
        for item in waiting:
            stop = start + len(item.box_xywh)
            result = {}
            for name, (points, scores) in found.items():
                own = points[start:stop], scores[start:stop], item.box_xywh, item.box_scores
                result[name] = self._poses(name, [item.image], *own)
            yield item.image, result
            start = stop

    def _predict_boxes(
        self, waiting: list[PendingImage], heads: tuple[str, ...]
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return each head's points in the images and scores for all boxes of the images."""
        source = [(item.image.pixels, box) for item in waiting for box in item.box_xywh]
        predicted = {}
        for name in heads:
            shape = (len(source), len(self.model.head(name).schema))
            predicted[name] = np.zeros((*shape, 2)), np.zeros(shape, dtype=np.float32)
        for group in self.by_geometry(heads):
            for start in range(0, len(source), self.batch_size):
                rows = slice(start, start + self.batch_size)
                for name, (points, scores) in self._forward(source[rows], group).items():
                    predicted[name][0][rows], predicted[name][1][rows] = points, scores
        return predicted

    def by_geometry(self, heads: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Group heads that can share crops and a backbone pass; with experts, none can."""
        groups: dict[Any, list[str]] = {}
        for name in heads:
            head, box = self.model.head(name), self.boxes[name]
            expert = name if self.model.expert_of else ""
            crop = (head.input_size, head.codec.warp, head.spec.pixels)
            key = (*crop, box.padding, box.keep_aspect, expert)
            groups.setdefault(key, []).append(name)
        return [tuple(group) for group in groups.values()]

    def _forward(
        self, source: Sequence[tuple[np.ndarray, np.ndarray]], heads: tuple[str, ...]
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        first, rule = self.model.head(heads[0]), self.boxes[heads[0]]
        crops, back = cut_boxes(
            [pixels for pixels, _ in source],
            np.array([box for _, box in source]),
            first.input_size,
            rule.padding,
            rule.keep_aspect,
            first.codec.warp,
            first.spec.pixels,
        )
        found = predict_crops(
            self.model, crops, heads, codecs=self.codecs, flip_test=self.flip_test
        )
        return {name: one.in_image(back) for name, one in found.items()}


@takes_allow_code
def load(
    path: str | Path,
    *,
    device: str | torch.device | None = None,
    batch_size: int = 32,
    flip_test: bool = False,
    max_pixels: int = MAX_PIXELS,
    allow_code: bool = False,
) -> Predictor:
    """Load a model for prediction from a checkpoint, a run folder or the Hugging Face Hub.

    Args:
        path: a .safetensors file of posekit, a run folder (its last model is taken), or
            'hf:owner/name' (downloaded once).
        device, batch_size, flip_test, max_pixels: see Predictor.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        CheckpointError: there is no model, or it cannot be loaded.
    """
    file = model_file(path)
    stored = read_description(file).get("boxes") or {}
    boxes = {name: BoxCard.model_validate(rule) for name, rule in stored.items()}
    return Predictor(
        load_model(file), boxes, device=device, batch_size=batch_size, flip_test=flip_test,
        max_pixels=max_pixels,
    )  # fmt: skip


def model_file(path: str | Path) -> Path:
    """Return the model file that a path, a run folder or an address names; see `load`."""
    if is_address(path):
        return fetch_model(str(path))
    file = Path(path).expanduser()
    if not file.is_dir():
        return file
    for inside in (file / "checkpoints" / "last.safetensors", file / MODEL_FILE):
        if inside.is_file():
            return inside
    raise CheckpointError(
        f"{file}: found no checkpoints/last.safetensors in this folder, expected a run "
        "folder or a .safetensors file"
    )


def _one_per_image(boxes: Any, count: int) -> list[Any]:
    if boxes is None:
        return [None] * count
    given = list(boxes)
    if len(given) != count:
        raise PredictionError(
            f"found boxes for {len(given)} images, expected one array (or None) for each of the "
            f"{count} images"
        )
    return given
