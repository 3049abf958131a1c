"""What a card can tell the adapter of COCO-style JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from posekit.config.base import Strict


class InstanceFields(Strict):
    """Which fields of an annotation make an instance.

    Attributes:
        keypoints: fields whose flat lists, laid end to end, are the schema's keypoints.
        first_of: the fields hold this many keypoints, of which the schema has the first.
        box: field of the box.
        valid: field that tells whether the part is annotated at all, if there is one.
    """

    keypoints: list[str] = Field(default_factory=lambda: ["keypoints"], min_length=1)
    first_of: int | None = Field(None, gt=0)
    box: str = "bbox"
    valid: str | None = None


class CropFields(Strict):
    """A crop other than the box: from the annotation's fields `center` and `scale`.

    Attributes:
        whole_image: take the whole image instead, whose size the file must then declare.
        size: field of the crop's width and height in pixels; without it `scale` counts.
        side: the crop is a square of this many pixels times the scale.
        inverse: divide by the scale instead (MPII-TRB).
        shift_down: the centre moves down by this many pixels times the scale (MPII: 15).
    """

    whole_image: bool = False
    size: str | None = None
    side: float = Field(200.0, gt=0)
    inverse: bool = False
    shift_down: float = 0.0


class HeadBox(Strict):
    """The box around a head, whose diagonal PCKh measures errors by.

    Attributes:
        field: the annotation's field with four numbers.
        corners: they are x1, y1, x2, y2 instead of x, y, width, height.
        factor: the extra `head_size` is the diagonal times this (0.6 in MPII's protocol).
    """

    field: str
    corners: bool = False
    factor: float = Field(0.6, gt=0)


class CocoOptions(Strict):
    """What a card can tell the adapter.

    Attributes:
        categories: keep annotations of these categories only, by id or name; all if empty.
        visibility: how the file codes visibility; see `fields.VisibilityCodes`.
        one_based: which coordinates count from 1.
        crop: give every instance a crop of its own beside its box.
        parts: the instances that each annotation holds; by default one, from `keypoints`.
        extras: name -> annotation field, numbers to keep (NaN where absent).
        image_extras: name -> image field, likewise.
        head_box: gives the extra `head_size` (NaN where an annotation has no such box).
        labelled_flag: image field that tells whether the image was labelled at all (PoseTrack's
            is_labeled); images where it is false are not part of the split.
        trust_order: do not compare the file's keypoint names with the schema's.
        renumber: number the instances from 1 instead of taking the file's annotation ids.
    """

    categories: list[int | str] = Field(default_factory=list)
    visibility: Literal["coco", "positive"] | dict[int, int] = "coco"
    one_based: list[Literal["keypoints", "box", "center"]] = Field(default_factory=list)
    crop: CropFields | None = None
    parts: list[InstanceFields] = Field(default_factory=lambda: [InstanceFields()], min_length=1)
    extras: dict[str, str] = Field(default_factory=dict)
    image_extras: dict[str, str] = Field(default_factory=dict)
    head_box: HeadBox | None = None
    labelled_flag: str | None = None
    trust_order: bool = False
    renumber: bool = False

    @field_validator("visibility")
    @classmethod
    def _codes_become_ours(cls, value: Any) -> Any:
        if isinstance(value, dict) and not set(value.values()) <= {0, 1, 2}:
            raise ValueError("expected codes of the file mapped to 0, 1 or 2")
        return value
