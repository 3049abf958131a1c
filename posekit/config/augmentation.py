"""The settings of training augmentation; no code of the crop, so that recipes can hold them.

The defaults are ViTPose's (mmpose 0.x). mmpose 1.x's are `scale_draw: truncated`,
`rotation: 80`, `rotation_draw: truncated`, `shift_draw: truncated`, `shift_once: false` and
`half_body_upper: 0.7`. Colour changes and erasing are off in both.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from posekit.config.base import Strict

Draw = Literal["normal", "truncated", "uniform"]


class AugmentationConfig(Strict):
    """How a training crop differs from the exact one; every probability 0 gives the exact crop.

    A draw of size a is 'normal' (a times a standard normal, clipped; ViTPose), 'truncated' (a times
    a standard normal cut off at -1 and 1; mmpose 1.x) or 'uniform' (between -a and a).

    Attributes:
        flip: probability of the mirror image; 0 where left and right must not trade places.
        half_body: probability of cropping around the upper or the lower body only. Needs an
            `upper_body` in the schema.
        half_body_labelled: fewest labelled keypoints for half-body crops.
        half_body_upper: probability of the upper body. ViTPose compares a normal draw with 0.5,
            which is 0.69 (their comments say 0.5).
        half_body_padding: factor from the chosen keypoints' extent to the crop.
        scale: size of the draw d; the crop's sides are multiplied by 1 + d, with a normal d
            clipped to -scale and scale.
        scale_draw: kind of that draw.
        rotation: size of the draw in degrees, a normal one clipped at twice this. 180 with
            'uniform' turns the whole way round.
        rotation_draw: kind of that draw.
        rotation_probability: share of crops that are turned at all.
        shift: size of the draw that moves the crop's centre, as a share of the unpadded box.
        shift_draw: kind of that draw ('normal' is clipped to -shift and shift).
        shift_probability: share of crops that are moved.
        shift_once: True moves an instance's centre once for the whole run and leaves alone
            instances whose annotation brings its own centre, as ViTPose does; False draws again in
            each epoch.
        zoom: smallest and largest share of the crop's area that is cut out at a random place and
            enlarged, after all else; MAE's pre-training has 0.2 and 1. None does not.
        zoom_aspect: the part's aspect is the crop's times a factor between 1 / zoom_aspect and
            zoom_aspect; a plain warp keeps the crop's own.
        brightness, contrast, saturation: the factor is uniform between 1 - x and 1 + x.
        grey: probability of a crop without colour.
        erase: probability of covering a rectangle with the mean colour.
        erase_area: smallest and largest share of the crop's area that is covered.
    """

    flip: float = Field(0.5, ge=0, le=1)
    half_body: float = Field(0.3, ge=0, le=1)
    half_body_labelled: int = Field(9, ge=2)
    half_body_upper: float = Field(0.6915, ge=0, le=1)
    half_body_padding: float = Field(1.5, gt=0)
    scale: float = Field(0.5, ge=0, lt=1)
    scale_draw: Draw = "normal"
    rotation: float = Field(40.0, ge=0, le=180)
    rotation_draw: Draw = "normal"
    rotation_probability: float = Field(0.6, ge=0, le=1)
    shift: float = Field(0.2, ge=0, le=1)
    shift_draw: Draw = "uniform"
    shift_probability: float = Field(0.3, ge=0, le=1)
    shift_once: bool = True
    zoom: tuple[float, float] | None = None
    zoom_aspect: float = Field(4 / 3, ge=1)
    brightness: float = Field(0.0, ge=0, lt=1)
    contrast: float = Field(0.0, ge=0, lt=1)
    saturation: float = Field(0.0, ge=0, le=1)
    grey: float = Field(0.0, ge=0, le=1)
    erase: float = Field(0.0, ge=0, le=1)
    erase_area: tuple[float, float] = (0.02, 0.2)

    @model_validator(mode="after")
    def _ordered(self) -> AugmentationConfig:
        low, high = self.erase_area
        if not 0 < low <= high < 1:
            raise ValueError("erase_area: expected two shares, 0 < smallest <= largest < 1")
        if self.zoom is not None and not 0 < self.zoom[0] <= self.zoom[1] <= 1:
            raise ValueError("zoom: expected two shares, 0 < smallest <= largest <= 1")
        return self


NO_AUGMENTATION = AugmentationConfig(
    flip=0, half_body=0, scale=0, rotation_probability=0, shift_probability=0
)
