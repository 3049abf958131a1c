"""The card of an ONNX detector: what its graph takes and gives, as typed YAML."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from posekit.config.base import Strict


class InputCard(Strict):
    """What a detector's graph takes.

    Attributes:
        size: (height, width) of its input.
        layout: order of the axes.
        colour: order of the channels.
        type: float32, or uint8 for graphs that normalise inside.
        divide: pixel values are divided by this, before mean and std.
        mean, std: per channel, in the order of `colour`.
        resize: 'letterbox' keeps the aspect and fills the rest, 'stretch' does not.
        pad: where a letterboxed image lies: in the 'corner' (upper left) or the 'centre'.
        fill: value of the filled rest, before `divide`.
    """

    size: tuple[int, int]
    layout: Literal["nchw", "nhwc"] = "nchw"
    colour: Literal["rgb", "bgr"] = "rgb"
    type: Literal["float32", "uint8"] = "float32"
    divide: float = Field(255.0, gt=0)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    resize: Literal["letterbox", "stretch"] = "letterbox"
    pad: Literal["corner", "centre"] = "corner"
    fill: int = Field(114, ge=0, le=255)


class PartCard(Strict):
    """Columns of one of the graph's outputs.

    Attributes:
        name: the output.
        columns: first column and the one after the last; all if left out.
        transpose: the output has a row a number and a column a box (as YOLOv8 writes it).
    """

    name: str
    columns: tuple[int, int] | None = None
    transpose: bool = False


class OutputCard(Strict):
    """What a detector's graph gives, (boxes, columns) with or without a batch axis in front.

    Attributes:
        boxes: four columns.
        format: what they are.
        frame: 'input' pixels, 'unit' (0 to 1 of the input), or 'image' pixels.
        scores: one column, or one for each class.
        objectness: one column that the scores are multiplied with.
        classes: one column with the class's number, where `scores` is a single one.
    """

    boxes: PartCard
    format: Literal["xyxy", "xywh", "cxcywh"] = "xyxy"
    frame: Literal["input", "unit", "image"] = "input"
    scores: PartCard
    objectness: PartCard | None = None
    classes: PartCard | None = None


class DetectorCard(Strict):
    """One ONNX detector.

    Attributes:
        source: where the file comes from.
        licence: its terms.
        file: the ONNX file, relative to the card.
        input, output: how to talk to its graph.
        keep: numbers of the classes to keep; all if left out.
        threshold: boxes that score less are left out.
        nms: boxes of one class that overlap a better one by more (IoU) are left out; null where
            the graph does it.
        most: boxes kept in one image.
    """

    source: str
    licence: str
    file: str
    input: InputCard
    output: OutputCard
    keep: tuple[int, ...] | None = None
    threshold: float = Field(0.3, ge=0, le=1)
    nms: float | None = Field(0.5, gt=0, le=1)
    most: int = Field(100, ge=1)
