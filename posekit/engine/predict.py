"""Predict files with a model: what `posekit predict` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from posekit.config.plug_ins import takes_allow_code
from posekit.inference.files import FilesDone, predict_files
from posekit.inference.predictor import Predictor, load
from posekit.inference.video import VideoOptions


@takes_allow_code
def predict(
    model: Predictor | str | Path,
    inputs: Sequence[str | Path],
    out: str | Path = "predictions",
    *,
    head: str | None = None,
    boxes: str | Path | None = None,
    detector: str | Path | None = None,
    overlay: bool = True,
    threshold: float = 0.15,
    track: bool = True,
    smooth: bool = False,
    flip_test: bool = False,
    batch_size: int = 32,
    device: str | None = None,
    frames: int | None = None,
    resume: bool = False,
    progress: Callable[[str, int, int | None], None] | None = None,
    allow_code: bool = False,
) -> FilesDone:
    """Predict photographs, videos or a camera, and write the results into a folder.

    Args:
        model: a Predictor, or what `load` takes.
        inputs: image and video files, folders, globs, 'camera:0'.
        out: folder for the results.
        head: name of a head; None if there is one only; "all" for every head and their fusion.
        boxes: file with boxes; detector: finds them instead; whole images without either.
        overlay: also write pictures and videos with the poses drawn in.
        threshold: keypoints that score less are not drawn.
        track: follow instances through videos; smooth: one-euro smoothing of their keypoints.
        flip_test, batch_size, device: of the Predictor, where `model` is not one already.
        frames: stop videos and cameras after so many frames.
        resume: leave out what an earlier run into this folder has done.
        progress: called with a name, how many are done and how many there are (None: unknown).
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        CheckpointError: there is no such model.
        PredictionError: no input is found, or nothing can be predicted; see `predict_files`.
    """
    if not isinstance(model, Predictor):
        model = load(model, device=device, batch_size=batch_size, flip_test=flip_test)
    options = VideoOptions(overlay, threshold, track, smooth)
    return predict_files(
        model, inputs, out, head=head, boxes=boxes, detector=detector, options=options,
        progress=progress, resume=resume, frames=frames,
    )  # fmt: skip
