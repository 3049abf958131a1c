"""Opens exported files with ONNX Runtime or OpenVINO; needs no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from posekit.errors import CheckpointError

METADATA_KEY = "posekit"
FORMAT = 1


class Session(Protocol):
    """An opened file: its metadata and its graph."""

    about: dict[str, Any]

    def run(self, names: Sequence[str], crops: np.ndarray) -> list[np.ndarray]:
        """Return the named outputs for crops, uint8 (B, h, w, 3)."""


def open_session(file: Path, providers: Sequence[str] | None = None) -> Session:
    """Open an exported file by its ending: .onnx, or .xml of OpenVINO.

    Args:
        file: the file.
        providers: ONNX Runtime's execution providers; CPU if left out.

    Raises:
        CheckpointError: no such file, a missing package, damaged, or not written by posekit.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: there is no such file")
    if file.suffix == ".onnx":
        return OnnxSession(file, providers)
    if file.suffix == ".xml":
        return OpenvinoSession(file)
    raise CheckpointError(
        f"{file}: found the ending '{file.suffix}', expected .onnx or .xml (OpenVINO); a .pt2 file "
        "is opened with torch.export.load"
    )


def open_onnx(file: Path, providers: Sequence[str] = ("CPUExecutionProvider",)) -> Any:
    """Open a graph with ONNX Runtime; its warnings are not shown.

    Raises:
        CheckpointError: the package is missing, or the file is damaged.
    """
    try:
        import onnxruntime  # noqa: PLC0415 - an extra
    except ImportError:
        raise CheckpointError(
            "running an ONNX file needs the package 'onnxruntime', which is not installed; install "
            "it with: pip install onnxruntime (or pip install 'posekit[export]')"
        ) from None
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(file), options, providers=list(providers))
    except Exception as error:  # onnxruntime has no common class of errors
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{file}: not a whole ONNX model ({reason})") from None


class OnnxSession:
    """A file in ONNX Runtime."""

    def __init__(self, file: Path, providers: Sequence[str] | None):
        self._session = open_onnx(file, providers or ("CPUExecutionProvider",))
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self.about = _read_about(file, text)

    def run(self, names: Sequence[str], crops: np.ndarray) -> list[np.ndarray]:
        """Return the named outputs for crops, uint8 (B, h, w, 3)."""
        return [np.asarray(part) for part in self._session.run(list(names), {"crops": crops})]


class OpenvinoSession:
    """A file in OpenVINO, on the CPU."""

    def __init__(self, file: Path):
        try:
            import openvino  # noqa: PLC0415 - an extra
        except ImportError:
            raise CheckpointError(
                "running an OpenVINO model needs the package 'openvino', which is not installed; "
                "install it with: pip install openvino"
            ) from None
        try:
            core = openvino.Core()
            model = core.read_model(str(file))
            key = [METADATA_KEY]
            text = model.get_rt_info(key).astype(str) if model.has_rt_info(key) else None
            # the hint's default may be bfloat16, which is not what was proved equal
            settings = {"INFERENCE_PRECISION_HINT": "f32"}
            self._compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise CheckpointError(f"{file}: not a whole OpenVINO model ({reason})") from None
        self.about = _read_about(file, text)

    def run(self, names: Sequence[str], crops: np.ndarray) -> list[np.ndarray]:
        """Return the named outputs for crops, uint8 (B, h, w, 3)."""
        result = self._compiled([crops])
        return [np.asarray(result[name]) for name in names]


def _read_about(file: Path, text: str | None) -> dict[str, Any]:
    if text is None:
        raise CheckpointError(f"{file}: a model file, but not one of posekit's")
    try:
        about = json.loads(text)
        version = about["format"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{file}: its metadata cannot be read") from None
    if version > FORMAT:
        raise CheckpointError(f"{file}: written by a newer posekit; update posekit")
    return about
