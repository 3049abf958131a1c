"""Smaller ONNX files: weights stored in bfloat16, or products in 8-bit integers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

_LEAST_VALUES = 1024


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
    _save(model, file)


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


def _save(model: Any, file: Path) -> None:
    import onnx  # noqa: PLC0415 - an extra

    big = model.ByteSize() >= onnx.checker.MAXIMUM_PROTOBUF
    onnx.save(
        model, str(file), save_as_external_data=big, location=f"{file.name}.data" if big else None
    )
