"""The part of a model that is exported, and the file formats that it is written in."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from posekit.errors import CheckpointError
from posekit.inference.predictor import Predictor
from posekit.inference.runtime import FORMAT, METADATA_KEY
from posekit.models import PoseModel
from posekit.version import __version__

Format = Literal["onnx", "openvino", "torch"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]

SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
PACKAGES: dict[Format, tuple[tuple[str, str], ...]] = {
    "onnx": (("onnx", "export"), ("onnxscript", "export"), ("onnxruntime", "export")),
    "openvino": (("onnx", "export"), ("onnxscript", "export"), ("openvino", "openvino")),
    "torch": (),
}
PRECISIONS: dict[Format, tuple[Precision, ...]] = {
    "onnx": ("fp32", "fp16", "bf16", "int8"),
    "openvino": ("fp32", "fp16"),
    "torch": ("fp32", "fp16", "bf16"),
}
_LEAST_VALUES = 1024
_HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


class ExportGraph(nn.Module):
    """From uint8 crops (B, h, w, 3) RGB to what heads say about them.

    Args:
        model: the model.
        heads: heads that may share one backbone pass.
        decode: give points and scores; without, the heatmaps.
        dtype: float type of backbone and decoders; normalisation and decoding stay float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: PoseModel,
        heads: Sequence[str],
        *,
        decode: bool = True,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.names, self.decode, self.float_type = tuple(heads), decode, dtype
        self.register_buffer("mean", model.mean.clone())
        self.register_buffer("std", model.std.clone())
        self.model = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Return, head by head, points (B, K, 2) and scores (B, K), or maps (B, C, H, W)."""
        groups = [(self.names[0], slice(0, crops.shape[0]))]
        images = (crops.permute(0, 3, 1, 2).to(self.mean.dtype) / 255 - self.mean) / self.std
        features = self.model.features(images.to(self.float_type), groups)
        outputs: list[Tensor] = []
        for name in self.names:
            head = self.model.head(name)
            maps = head.codec.to_heatmap(head(features))
            outputs += head.codec.decode(maps) if self.decode else [maps]
        return tuple(outputs)


def write_graph(
    predictor: Predictor,
    heads: Sequence[str],
    file: Path,
    *,
    decode: bool = True,
    precision: Precision = "fp32",
) -> None:
    """Write heads into a file of the format that its ending names.

    Raises:
        CheckpointError: the exporter cannot express this model.
    """
    kind = format_of(file)
    half = precision in _HALF and (kind == "torch" or precision == "fp16")
    dtype = _HALF[precision] if half else torch.float32
    graph = ExportGraph(predictor.model, heads, decode=decode, dtype=dtype).eval()
    text = json.dumps(describe_export(predictor, heads, decode=decode, precision=precision))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = _trace(predictor, graph)
            if kind == "torch":
                torch.export.save(program, file, extra_files={METADATA_KEY: text})
                return
            onnx_file = file.with_suffix(".onnx")
            _write_onnx(program, output_names(heads, decode), onnx_file, precision)
        except CheckpointError:
            raise
        except Exception as error:  # exporters raise whatever they like
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(
                f"head(s) {', '.join(heads)}: this model cannot be exported to {kind} ({reason})"
            ) from error
    if kind == "openvino":
        _onnx_to_openvino(onnx_file, file, text)
    else:
        _set_onnx_metadata(onnx_file, text)


def format_of(file: Path) -> Format:
    """Return the format that a file's ending names; CheckpointError lists the endings."""
    for kind, suffix in SUFFIXES.items():
        if file.suffix.lower() == suffix:
            return kind
    known = ", ".join(f"{suffix} ({kind})" for kind, suffix in SUFFIXES.items())
    raise CheckpointError(f"{file}: found the ending '{file.suffix}', expected {known}")


def check_precision(kind: Format, precision: str) -> None:
    """Raise CheckpointError unless the format is offered in this precision; names those it is."""
    if precision not in PRECISIONS[kind]:
        raise CheckpointError(
            f"precision '{precision}' is not offered for {kind}; take one of "
            f"{', '.join(PRECISIONS[kind])}, or another format"
        )


def output_names(heads: Sequence[str], decode: bool) -> list[str]:
    """Return the graph's outputs in order."""
    parts = ("points", "scores") if decode else ("maps",)
    return [f"{head}.{part}" for head in heads for part in parts]


def describe_export(
    predictor: Predictor, heads: Sequence[str], *, decode: bool, precision: str
) -> dict[str, Any]:
    """Return all that a user of the file must know, as plain values."""
    model, first = predictor.model, predictor.model.head(heads[0])
    rule = predictor.boxes[heads[0]]
    parts = ("points", "scores") if decode else ("maps",)
    return {
        "format": FORMAT,
        "posekit_version": __version__,
        "input": "crops: uint8 (B, height, width, 3) RGB; normalised inside the graph",
        "input_size": list(first.input_size),
        "pixels": first.spec.pixels,
        "warp": first.codec.warp,
        "padding": rule.padding,
        "keep_aspect": rule.keep_aspect,
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "decoded": decode,
        "precision": precision,
        "outputs": output_names(heads, decode),
        "heads": {
            name: {
                "schema": model.head(name).schema.to_dict(),
                "codec": _codec_settings(model, name),
                **{part: f"{name}.{part}" for part in parts},
            }
            for name in heads
        },
    }


def _codec_settings(model: PoseModel, name: str) -> dict[str, Any]:
    """Return every setting of a head's codec, defaults included."""
    config: Any = getattr(model.head(name).codec, "config", None)
    stated = dict(model.head(name).spec.codec)
    return stated if config is None else {**config.model_dump(mode="json"), "kind": stated["kind"]}


def _trace(predictor: Predictor, graph: ExportGraph) -> torch.export.ExportedProgram:
    height, width = predictor.model.head(graph.names[0]).input_size
    example = torch.zeros((3, height, width, 3), dtype=torch.uint8, device=predictor.device)
    batch = torch.export.Dim("batch", min=1, max=65535)
    return torch.export.export(graph, (example,), dynamic_shapes={"crops": {0: batch}})


def _write_onnx(
    program: torch.export.ExportedProgram, outputs: list[str], file: Path, precision: Precision
) -> None:
    done = torch.onnx.export(
        program, input_names=["crops"], output_names=outputs, dynamo=True, verbose=False
    )
    if done is None:
        raise CheckpointError("torch's ONNX exporter gave no model")
    done.save(str(file))
    if precision == "bf16":
        store_bf16(file)
    elif precision == "int8":
        quantise_int8(file)


def _set_onnx_metadata(file: Path, text: str) -> None:
    import onnx  # noqa: PLC0415 - an extra

    model = onnx.load(str(file), load_external_data=False)
    onnx.helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, str(file))


def _onnx_to_openvino(onnx_file: Path, file: Path, text: str) -> None:
    import openvino  # noqa: PLC0415 - an extra

    try:
        model = openvino.convert_model(str(onnx_file))
        model.set_rt_info(text, [METADATA_KEY])
        openvino.save_model(model, str(file), compress_to_fp16=False)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise CheckpointError(f"{file}: OpenVINO cannot take this model ({reason})") from None
    finally:
        for part in onnx_file.parent.glob(f"{onnx_file.name}*"):
            part.unlink()


def store_bf16(file: Path) -> None:
    """Store a file's large float32 weights in bfloat16, in place; arithmetic stays float32.

    Halves the file. ONNX Runtime has no bfloat16 arithmetic on CPUs, so each weight is
    followed by a cast to float32, which is folded when the file is loaded.
    """
    import onnx  # noqa: PLC0415 - an extra

    model = onnx.load(str(file))
    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if tensor.data_type != onnx.TensorProto.FLOAT or values.size < _LEAST_VALUES:
            continue
        small = onnx.helper.make_tensor(
            f"{tensor.name}.bf16", onnx.TensorProto.BFLOAT16, values.shape, _bf16_bytes(values),
            raw=True,
        )  # fmt: skip
        casts.append(
            onnx.helper.make_node("Cast", [small.name], [tensor.name], to=onnx.TensorProto.FLOAT)
        )
        tensor.CopyFrom(small)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    _save_onnx(model, file)


def quantise_int8(file: Path) -> None:
    """Turn a file's matrix products into products of 8-bit integers, in place.

    Weights are quantised for each output channel, activations while the model runs (so there is
    nothing to calibrate). Convolutions keep their float32: they are a small part of a ViT.
    """
    from onnxruntime import quantization  # noqa: PLC0415 - an extra

    target = file.with_name(f"{file.stem}.int8{file.suffix}")
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends a step that the exporter has done already
    try:
        quantization.quantize_dynamic(
            str(file),
            str(target),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        logger.setLevel(level)
    target.replace(file)


def _bf16_bytes(values: np.ndarray) -> bytes:
    """Round float32 values to the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
    return rounded.astype(np.uint16).tobytes()


def _save_onnx(model: Any, file: Path) -> None:
    import onnx  # noqa: PLC0415 - an extra

    big = model.ByteSize() >= onnx.checker.MAXIMUM_PROTOBUF
    onnx.save(
        model, str(file), save_as_external_data=big, location=f"{file.name}.data" if big else None
    )
