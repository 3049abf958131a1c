"""The settings of learning from a teacher and of pre-training; no code of either."""

from __future__ import annotations

from pydantic import Field, model_validator

from posekit.config.base import Strict


class TokenConfig(Strict):
    """A knowledge token: one token that is learned by the frozen teacher and given to the student.

    Attributes:
        file: a token that an earlier run has learned (RUN/token.pt); left out, this run
            learns one first.
        steps: optimizer steps of learning it, with the run's batches.
        lr: learning rate of learning it (AdamW, cosine, no weight decay).
    """

    file: str | None = None
    steps: int = Field(500, ge=1)
    lr: float = Field(1e-2, gt=0)


class DistillationConfig(Strict):
    """What a run learns from a trained model, beside the annotations.

    Attributes:
        teacher: the teacher's model file or run folder, of any size.
        output: weight of learning the teacher's output; 0 does not.
        fade: this weight falls linearly to 0 over the run, as in DWPose.
        heads: head -> the teacher's head that teaches it; by default the one of the same name. A
            head without one learns from the annotations alone.
        token: a knowledge token; none if left out.
    """

    teacher: str | None = None
    output: float = Field(1.0, ge=0)
    fade: bool = False
    heads: dict[str, str] = Field(default_factory=dict)
    token: TokenConfig | None = None

    @model_validator(mode="after")
    def _does_something(self) -> DistillationConfig:
        if not self.output and self.token is None:
            raise ValueError("nothing is learned from the teacher: set 'output' or 'token'")
        has_token = self.token is not None and self.token.file is not None
        if self.teacher is None and (self.output or not has_token):
            raise ValueError("key 'teacher' is missing: a model file or run folder")
        return self


class PretrainingConfig(Strict):
    """Masked-autoencoder pre-training; the defaults are MAE's (He et al., CVPR 2022).

    Attributes:
        mask: share of the tokens that are hidden.
        decoder_width, decoder_depth, decoder_heads: sizes of the decoder, which is thrown away
            afterwards; the same for all sizes of the encoder.
        normalise_pixels: the target is each patch minus its mean over its standard deviation.
    """

    mask: float = Field(0.75, gt=0, lt=1)
    decoder_width: int = Field(512, ge=8)
    decoder_depth: int = Field(8, ge=1)
    decoder_heads: int = Field(16, ge=1)
    normalise_pixels: bool = True

    @model_validator(mode="after")
    def _divides(self) -> PretrainingConfig:
        if self.decoder_width % self.decoder_heads or self.decoder_width % 4:
            raise ValueError(
                f"decoder_width {self.decoder_width}: expected a multiple of 4 and of "
                f"decoder_heads {self.decoder_heads}"
            )
        return self
