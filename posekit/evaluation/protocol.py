"""Protocols: every setting that stands behind a score, one typed class per family of metric."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from posekit.config.base import Strict

Positive = Annotated[float, Field(gt=0)]
Normaliser = str | tuple[str, str] | Positive
"""A length in the image that errors are divided by: 'box_long_side', 'box_diagonal',
'box_geometric_mean', the name of one of the dataset's extras (head_size, box_size, ...), two
keypoint names (their distance in the annotation), or a number of pixels."""


class Protocol(Strict):
    """Settings that every evaluator has; defaults come from the dataset's card.

    Attributes:
        boxes: 'annotation' or the file of the detector's boxes.
        boxes_hash: SHA-256 of the detector's file; filled in by the runner.
        min_box_score: detector boxes below this score are left out.
        padding: enlargement of the box; None takes the card's.
        flip_test: average with the mirrored image; None where nobody knows (a predictions file).
        shift_flipped: shift mirrored heatmaps by one pixel; None leaves it to the codec.
        refine: how the codec gets between heatmap pixels; '' takes the head's own way.
        decoder: how heatmaps became points; filled in by the codec that decoded.
        subset: name of the extra whose non-zero rows alone are evaluated ('' for all).
        dataset, split, head: what was evaluated; filled in by the runner.
        data_hash: SHA-256 of the annotations that were read; filled in by the runner.
        posekit_version: filled in by the runner.
        headline: name of the main metric; '' takes the evaluator's.
    """

    boxes: str = "annotation"
    boxes_hash: str = ""
    min_box_score: float = 0.0
    padding: Positive | None = None
    flip_test: bool | None = True
    shift_flipped: bool | None = None
    refine: str = ""
    decoder: str = ""
    subset: str = ""
    dataset: str = ""
    split: str = ""
    head: str = ""
    data_hash: str = ""
    posekit_version: str = ""
    headline: str = ""


class OksProtocol(Protocol):
    """OKS average precision and recall as COCO defines them.

    Attributes:
        sigmas: K OKS sigmas, or None for the schema's; without either there is no AP.
        sigmas_source: where they come from; required with `sigmas`.
        use_area: the annotated area scales OKS; False takes 0.53 x box width x height.
        score: how an instance's score is made of its box's and its keypoints' scores.
        keypoint_score_threshold: keypoints must exceed it to count in 'bbox_keypoint'.
        nms: suppression of repeated detections within an image.
        nms_threshold: OKS above which 'oks_nms' drops, scale of 'soft_oks_nms''s decay.
        nms_max_detections: detections that 'soft_oks_nms' keeps an image.
        detection_area: what decides which area range an unmatched detection belongs to: 'box', its
            'keypoints'' extent, or the extent of the keypoints of one of `parts`.
        labelled_by: 'visibility', or the extra that counts an instance's keypoints (CrowdPose's
            `num_keypoints`); instances that count none are ignored.
        max_detections: detections an image and category that take part.
        engine: 'posekit' or the slower reference 'pycocotools'; the numbers are the same.
    """

    needs_sigmas: ClassVar[bool] = True
    sigmas: tuple[Positive, ...] | None = None
    sigmas_source: str | None = None
    use_area: bool = True
    score: Literal["bbox_keypoint", "bbox", "keypoint", "bbox_rle"] = "bbox_keypoint"
    keypoint_score_threshold: float = 0.2
    nms: Literal["none", "oks_nms", "soft_oks_nms"] = "oks_nms"
    nms_threshold: Positive = 0.9
    nms_max_detections: Annotated[int, Field(gt=0)] = 20
    detection_area: str = "box"
    labelled_by: str = "visibility"
    max_detections: Annotated[int, Field(gt=0)] = 20
    engine: Literal["posekit", "pycocotools"] = "posekit"

    @model_validator(mode="after")
    def _sigmas_have_a_source(self) -> OksProtocol:
        if self.sigmas is not None and not self.sigmas_source:
            raise ValueError("sigmas without sigmas_source; say where they come from")
        return self


class CrowdPoseProtocol(OksProtocol):
    """OKS AP with the crowd index's easy, medium and hard images.

    Attributes:
        crowd_index: the extra that holds the image's crowd index.
        easy_below, hard_from: bounds of the index.
    """

    use_area: bool = False
    labelled_by: str = "num_keypoints"
    crowd_index: str = "crowd_index"
    easy_below: float = 0.2
    hard_from: float = 0.8


class WholeBodyProtocol(OksProtocol):
    """OKS AP of the whole and of its parts.

    Attributes:
        parts: name -> first and last keypoint of the part, in channel order.
    """

    parts: dict[str, tuple[str, str]] = Field(default_factory=dict)


class JointApProtocol(OksProtocol):
    """Average precision of each keypoint, and OKS AP of the same frames where there are sigmas.

    Attributes:
        normaliser: length of a person that distances are divided by.
        normaliser_factor: times this.
        threshold: a keypoint is found within so many lengths, that distance included.
        columns: column -> keypoints whose AP is averaged for it.
    """

    needs_sigmas: ClassVar[bool] = False
    use_area: bool = False
    normaliser: Normaliser = "head_size"
    normaliser_factor: Positive = 1.0
    threshold: Positive = 0.5
    columns: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class PckProtocol(Protocol):
    """Share of keypoints nearer than a threshold times a normalising length.

    Attributes:
        normalisers: metric name -> length; two keypoints shorter than `short_below_px` take the
            prediction's distance instead (JHMDB's torso).
        thresholds: reported as NAME@threshold; the first is the columns' and the main one.
        average: 'keypoints' is the mean over keypoints of each one's share (the field's custom),
            'points' the share of all points.
        short_below_px: 0 switches the replacement off; the instance is then left out if zero.
        columns: column -> keypoints whose shares are averaged for it.
        auc_px: if given, also the AUC over i/20 of so many pixels.
        epe: also the mean error in pixels.
    """

    normalisers: dict[str, Normaliser] = Field(default={"PCK": "box_long_side"})
    thresholds: tuple[Positive, ...] = (0.2, 0.1, 0.05)
    average: Literal["keypoints", "points"] = "keypoints"
    short_below_px: float = 0.0
    columns: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    auc_px: Positive | None = None
    epe: bool = False

    @field_validator("normalisers", "thresholds")
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        if not value:
            raise ValueError("expected at least one")
        return value


class PckhProtocol(Protocol):
    """PCKh in percent, with the columns of MPII's table.

    Attributes:
        normaliser: the head size.
        normaliser_factor: times this (head-box diagonals come with 0.6 where the adapter has not
            applied it).
        thresholds: the first is the main one, the others add PCKh@threshold.
        inclusive: an error equal to the threshold counts as correct.
        columns: column -> keypoints, each column the plain mean of theirs.
        pooled_columns: a column is the share of all its keypoints' points instead.
        left_out: keypoints that the mean leaves out.
    """

    normaliser: Normaliser = "head_size"
    normaliser_factor: Positive = 1.0
    thresholds: tuple[Positive, ...] = (0.5, 0.1)
    inclusive: bool = True
    columns: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    pooled_columns: bool = False
    left_out: tuple[str, ...] = ()


class NmeProtocol(Protocol):
    """Normalised mean error, failure rates and area under the cumulative error curve.

    Attributes:
        normaliser: length that errors are divided by.
        failure_thresholds: FR@t is the share of instances with an NME above t.
        auc_threshold: AUC@t is the exact area under the curve up to t, divided by t.
        subsets: metric suffix -> extra whose non-zero rows form the subset.
    """

    normaliser: Normaliser = "box_long_side"
    failure_thresholds: tuple[Positive, ...] = (0.10, 0.08)
    auc_threshold: Positive = 0.10
    subsets: dict[str, str] = Field(default_factory=dict)


class AucEpeProtocol(PckProtocol):
    """Hands: PCK, AUC over a pixel range, and the mean error in pixels."""

    thresholds: tuple[Positive, ...] = (0.2,)
    auc_px: Positive | None = 30.0
    epe: bool = True


class DlcProtocol(Protocol):
    """RMSE in pixels and OKS mAP/mAR as DeepLabCut reports them.

    Attributes:
        sigma: the one OKS sigma that DeepLabCut gives every keypoint.
        pcutoff: RMSE is also given over points whose score is at least this.
        pck_thresholds: also PCK of the box's longer side.
    """

    sigma: Positive = 0.1
    sigmas_source: str = "DeepLabCut's default, one value for every keypoint"
    pcutoff: float = 0.6
    pck_thresholds: tuple[Positive, ...] = (0.2, 0.1, 0.05)
