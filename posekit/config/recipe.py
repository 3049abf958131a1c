"""The typed recipe: everything that a training run is, in one YAML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from posekit.config.augmentation import AugmentationConfig
from posekit.config.base import Strict, apply_overrides, validate
from posekit.config.cards import find, read_with_extends
from posekit.config.model import BackboneConfig, FreezeConfig, Phase
from posekit.config.prototypes import PosebhConfig
from posekit.config.published import Published, SourceFile
from posekit.config.transfer import DistillationConfig, PretrainingConfig
from posekit.errors import ConfigError


class HeadRecipe(Strict):
    """One head of the run: the dataset that it learns and the kind of head that it is.

    Attributes:
        dataset: name or path of a dataset card.
        head: name or path of a head card (decoder, codec and loss).
        input_size: (height, width) of the crop in pixels.
        train: split to train on; evaluate: split to score, None for no evaluation.
        root: the dataset's folder; by default `data_root` / the card's folder.
        loss_weight: factor of this head's loss in the sum.
        decoder, codec, loss: settings that replace those of the head card, key by key.
        augmentation: settings that replace the run's, key by key.
        protocol: settings of the evaluation laid over those of the card, such as the boxes.
        exclude: file with one image path or id a line that training leaves out.
    """

    dataset: str
    head: str = "classic_udp"
    input_size: tuple[int, int] = (256, 192)
    train: str = "train"
    evaluate: str | None = "val"
    root: str | None = None
    loss_weight: float = Field(1.0, ge=0)
    decoder: dict[str, Any] = Field(default_factory=dict)
    codec: dict[str, Any] = Field(default_factory=dict)
    loss: dict[str, Any] = Field(default_factory=dict)
    augmentation: dict[str, Any] = Field(default_factory=dict)
    protocol: dict[str, Any] = Field(default_factory=dict)
    exclude: str | None = None

    @field_validator("input_size")
    @classmethod
    def _positive(cls, size: tuple[int, int]) -> tuple[int, int]:
        if min(size) < 16:
            raise ValueError("expected (height, width) of at least 16 pixels")
        return size


class Sampling(Strict):
    """How the datasets share each batch.

    Attributes:
        strategy: 'proportional' to the number of instances, 'equal', 'temperature' (share
            proportional to n ** (1 / temperature)), or 'weights' (as given, any positive scale).
        temperature: 1 is proportional, large tends to equal.
        weights: head -> weight, for strategy 'weights'.
    """

    strategy: Literal["proportional", "equal", "temperature", "weights"] = "proportional"
    temperature: float = Field(2.0, gt=0)
    weights: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Sampling:
        if self.strategy == "weights" and not self.weights:
            raise ValueError("strategy 'weights' needs the key 'weights'")
        if any(not weight > 0 for weight in self.weights.values()):
            raise ValueError("weights must be positive; leave a head out of the recipe instead")
        return self


class FeatureCache(Strict):
    """A frozen backbone's maps of the training crops, kept on disk: only the heads then compute.

    Attributes:
        views: different augmented crops of each instance; an epoch shows the next one.
        precision: of the numbers on disk.
    """

    views: int = Field(8, ge=1)
    precision: Literal["fp16", "fp32"] = "fp16"


class Data(Strict):
    """Where samples come from and how they are read.

    Attributes:
        sampling: how the datasets share each batch.
        workers: processes that decode and crop; 0 does it in the main process.
        cache: 'none' decodes every image again, 'store' keeps each instance's neighbourhood in a
            memory-mapped crop store in the cache folder (small data that is read many times).
        pixels: 'reduced' takes means of 2x2, 4x4 or 8x8 pixels where a crop is that much smaller
            than its image, in training, evaluation and prediction alike: faster, and without
            aliasing; 'full' interpolates in the whole image, as ViTPose's official code does.
        features: keep the frozen backbone's maps of the crops too; needs freeze.backbone.
    """

    sampling: Sampling = Sampling()
    workers: int = Field(2, ge=0)
    cache: Literal["none", "store"] = "none"
    pixels: Literal["full", "reduced"] = "reduced"
    features: FeatureCache | None = None

    @model_validator(mode="after")
    def _stored_pixels(self) -> Data:
        if self.cache == "store" and self.pixels == "full":
            raise ValueError(
                "'cache: store' keeps reduced pixels, but 'pixels' is 'full'; set one of them to "
                "'none' or 'reduced'"
            )
        return self


class Schedule(Strict):
    """Learning rate over the steps of the run.

    Attributes:
        kind: 'step' (times `gamma` at each milestone), 'cosine' (down to `final_factor`) or
            'constant'.
        milestones: in epochs if the run's length is in epochs, else in steps.
        warmup_steps: linear warm-up from `warmup_factor` times the learning rate.
    """

    kind: Literal["step", "cosine", "constant"] = "step"
    milestones: tuple[float, ...] = (170, 200)
    gamma: float = Field(0.1, gt=0, le=1)
    warmup_steps: int = Field(500, ge=0)
    warmup_factor: float = Field(0.001, ge=0, le=1)
    final_factor: float = Field(0.0, ge=0, le=1)


class Optimizer(Strict):
    """AdamW or Muon, with layer-wise learning-rate decay.

    Attributes:
        name: 'adamw' (ViTPose's), or 'muon', which learns from random weights in far fewer samples.
        lr: learning rate of the top layer's weights.
        betas: AdamW's running averages (Muon: of the parameters that stay with AdamW).
        momentum: Muon's.
        adamw_lr: Muon: learning rate of all that is no hidden matrix, such as stem and biases.
        layer_decay: learning rate of block n is lr * layer_decay ** (layers - n); 1 is none.
        clip_norm: largest norm of the gradient; 0 does not clip.
    """

    name: Literal["adamw", "muon"] = "adamw"
    lr: float = Field(5e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = Field(0.95, ge=0, lt=1)
    adamw_lr: float = Field(1e-2, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    layer_decay: float = Field(0.75, gt=0, le=1)
    clip_norm: float = Field(1.0, ge=0)


class Training(Strict):
    """Length, batch and arithmetic of the run.

    Attributes:
        epochs, steps: the length, exactly one of them; an epoch is as many samples as all
            training splits have instances together.
        batch_size: samples of a micro-batch in one process, all heads together.
        accumulate: micro-batches of an optimizer step.
        batch_total: samples of an optimizer step over all processes; `accumulate` then follows
            from the number of processes, so that one GPU and eight train alike.
        precision: arithmetic of the model; 'auto' is bf16 where the device multiplies in it, else
            fp32. Losses, weights and decoding stay float32.
        attention: kernel of the fused attention; 'auto' takes flash or memory-efficient attention,
            never cuDNN's, whose gradient in bfloat16 is NaN now and then.
        max_bad_steps: a step whose loss or gradient is not a finite number changes nothing; so many
            in a row end the run.
        ema_decay: exponential moving average of the weights, which evaluation and the saved
            model use; 0 for none.
        loss_scale: 'head' normalises each head's loss over its own labelled points and adds the
            heads by loss_weight; 'share' multiplies this by the head's share of the samples, so
            that every sample weighs about the same; 'batch' takes ViTPose's means over the whole
            mixed batch (protocols of the official code, for parity).
        seed: key of every random draw of the run.
        init: checkpoint file whose weights the run starts from.
        log_every, save_every, evaluate_every: in steps; 0 evaluates at the end only.
        gradient_report_every: in steps; logs each head's share of the gradient of one late layer of
            the backbone and the cosines between heads, for the report; 0 does not measure. The
            run's weights are the same with and without. Steps whose phase rests the whole backbone
            are not measured.
        compile: compile the blocks and decoders (torch.compile): faster steps after a first one
            that takes a minute; on a CPU it needs a C++ compiler.
        tensorboard: also write curves for TensorBoard (extra `tensorboard`).
    """

    epochs: float | None = Field(None, gt=0)
    steps: int | None = Field(None, gt=0)
    batch_size: int = Field(64, ge=1)
    accumulate: int = Field(1, ge=1)
    batch_total: int | None = Field(None, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    attention: Literal["auto", "flash", "efficient", "math"] = "auto"
    max_bad_steps: int = Field(20, ge=1)
    ema_decay: float = Field(0.0, ge=0, lt=1)
    loss_scale: Literal["head", "share", "batch"] = "head"
    seed: int = Field(0, ge=0)
    init: str | None = None
    log_every: int = Field(20, ge=1)
    save_every: int = Field(500, ge=1)
    evaluate_every: int = Field(0, ge=0)
    gradient_report_every: int = Field(0, ge=0)
    compile: bool = False
    tensorboard: bool = False

    @model_validator(mode="after")
    def _one_length(self) -> Training:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give the run's length as exactly one of 'epochs' and 'steps'")
        return self


class Evaluation(Strict):
    """How heads are evaluated during and after the run; protocol settings come from the cards."""

    batch_size: int = Field(64, ge=1)
    protocol: dict[str, Any] = Field(default_factory=dict)


class Recipe(Strict):
    """What a training run is: backbone x (dataset, head)s x mixture x schedule.

    Attributes:
        published: reported results that `posekit reproduce` compares with.
        sources: files that the run needs besides the datasets, and where to get them.
        freeze: parts of the model that do not train.
        phases: parts that rest for a time, in the order of their starts.
        posebh: keypoint prototypes shared by all heads, and self-supervision by them.
        distillation: what to learn from a trained model, if anything.
        pretraining: settings of `posekit pretrain`; MAE's if left out.
        data_root: folder that holds the datasets' folders.
        out: run folder; runs/NAME if left out.
    """

    name: str
    notes: str = ""
    backbone: BackboneConfig
    heads: dict[str, HeadRecipe]
    published: dict[str, Published] = Field(default_factory=dict)
    sources: dict[str, SourceFile] = Field(default_factory=dict)
    freeze: FreezeConfig = FreezeConfig()
    phases: tuple[Phase, ...] = ()
    posebh: PosebhConfig | None = None
    data_root: str = "data"
    out: str = ""
    data: Data = Data()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: Training
    schedule: Schedule = Schedule()
    optimizer: Optimizer = Optimizer()
    evaluation: Evaluation = Evaluation()
    distillation: DistillationConfig | None = None
    pretraining: PretrainingConfig | None = None

    @model_validator(mode="after")
    def _check_heads(self) -> Recipe:
        if not self.heads:
            raise ValueError("a recipe needs at least one head")
        unknown = set(self.data.sampling.weights) - set(self.heads)
        missing = set(self.heads) - set(self.data.sampling.weights)
        if unknown:
            raise ValueError(f"data.sampling.weights names the unknown heads {sorted(unknown)}")
        if self.data.sampling.strategy == "weights" and missing:
            raise ValueError(f"data.sampling.weights says nothing of the heads {sorted(missing)}")
        for name, head in self.heads.items():
            self._head_augmentation(name, head)
        if self.data.features is not None and not self.freeze.backbone:
            raise ValueError(
                "data.features keeps the maps of a backbone that does not change; set "
                "freeze.backbone: true, or leave data.features out"
            )
        if self.data.features is not None and self.distillation is not None:
            raise ValueError("data.features keeps no crops for a teacher; leave one of them out")
        for name, entry in self.published.items():
            if (entry.head or name) not in self.heads:
                raise ValueError(f"published.{name}: there is no head '{entry.head or name}'")
        for name in self.distillation.heads if self.distillation else ():
            if name not in self.heads:
                raise ValueError(f"distillation.heads names the unknown head '{name}'")
        return self

    def head_augmentation(self, head: str) -> AugmentationConfig:
        """Return the augmentation of one head: the run's with the head's own settings on top."""
        return self._head_augmentation(head, self.heads[head])

    def for_processes(self, processes: int) -> Recipe:
        """Return the recipe with `accumulate` set so that a step holds `batch_total` samples.

        Raises:
            ConfigError: batch_total is no multiple of what the processes take at once.
        """
        training = self.training
        if training.batch_total is None:
            return self
        at_once = training.batch_size * processes
        if training.batch_total % at_once:
            raise ConfigError(
                f"training.batch_total is {training.batch_total}, which {processes} process(es) "
                f"cannot share in micro-batches of {training.batch_size}; set training.batch_size "
                f"to a number whose multiple by {processes} divides it"
            )
        update = {"accumulate": training.batch_total // at_once}
        return self.model_copy(update={"training": training.model_copy(update=update)})

    def head_root(self, head: str, folder: str) -> Path:
        """Return the folder of a head's dataset, whose card calls it `folder`."""
        own = self.heads[head].root
        return Path(own if own is not None else Path(self.data_root) / folder).expanduser()

    def to_yaml(self) -> str:
        """Return the resolved recipe as YAML; the run again from this text alone."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def _head_augmentation(self, name: str, head: HeadRecipe) -> AugmentationConfig:
        merged = {**self.augmentation.model_dump(), **head.augmentation}
        return validate(AugmentationConfig, merged, f"heads.{name}.augmentation")


def load_recipe(name: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Load a recipe by name or path and apply `key.path=value` settings.

    Raises:
        ConfigError: no such recipe, or a key or value is wrong; names file, key, nearest key.
    """
    file = find("recipes", name)
    data = read_with_extends("recipes", file)
    data.setdefault("name", file.stem)
    return recipe_from_dict(data, str(file), overrides)


def recipe_from_dict(
    data: Mapping[str, Any], where: str = "recipe", overrides: Iterable[str] = ()
) -> Recipe:
    """Build a recipe from a mapping; ConfigError names `where`."""
    overrides = list(overrides)
    merged = _replace_length(apply_overrides(data, overrides), overrides)
    if overrides:
        where = f"{where} with {' '.join(overrides)}"
    return validate(Recipe, merged, where)


def _replace_length(data: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Let `training.steps=...` replace a recipe's epochs, and the other way round."""
    training = data.get("training")
    if not isinstance(training, Mapping):
        raise ConfigError("recipe: key 'training' is missing or not a mapping")
    for given, other in (("steps", "epochs"), ("epochs", "steps")):
        keys = [setting.partition("=")[0].strip() for setting in overrides]
        if f"training.{given}" in keys and f"training.{other}" not in keys:
            training = {key: value for key, value in training.items() if key != other}
    return {**data, "training": training}
