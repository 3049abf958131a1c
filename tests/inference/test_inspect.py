"""What a model sees: its own heatmaps, and attention that adds up."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from inference_helpers import SCHEMA_A, head

from posekit.errors import ConfigError, PosekitError, PredictionError
from posekit.inference.inspect import inspect, write_look
from posekit.inference.predictor import Predictor

BOX = [20.0, 10, 60, 90]


@pytest.fixture
def predictor(make_model) -> Predictor:
    return Predictor(make_model({"a": head(SCHEMA_A, "msra")}, depth=2), device="cpu")


def test_heatmaps_are_those_that_the_pose_comes_from(predictor, picture):
    seen = inspect(predictor, picture, BOX)
    poses = predictor.predict(picture, BOX)
    assert seen.scores == pytest.approx(poses.scores[0], abs=1e-6)
    for k, heat in enumerate(seen.heatmaps):
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        assert np.abs(seen.points_crop[k] / 4 - [x, y]).max() < 0.5


def test_attention_is_what_the_block_computes(predictor, picture):
    """With fused attention off, timm hands the same shares to its dropout."""
    kept = []
    layer = predictor.model.backbone.vit.blocks[1].attn
    layer.fused_attn = False
    layer.attn_drop.register_forward_hook(lambda _m, args, _o: kept.append(args[0]))
    seen = inspect(predictor, picture, BOX)
    rows, columns = seen.attention.shape[1:]
    assert (rows, columns) == (4, 3)
    for k, (x, y) in enumerate(seen.points_crop):
        place = int(min(y * 4 / 64, 3)) * columns + int(min(x * 3 / 48, 2))
        expected = kept[0][0].mean(0)[place].reshape(4, 3)
        assert seen.attention[k] == pytest.approx(expected.numpy(), abs=1e-6)
    assert seen.attention.sum(axis=(1, 2)) == pytest.approx(1.0, abs=1e-5)
    first = inspect(predictor, picture, BOX, block=0)
    assert np.abs(first.attention - seen.attention).max() > 1e-6


def test_the_picture_holds_a_tile_for_each_map(predictor, picture, tmp_path):
    small = cv2.imread(str(write_look(tmp_path / "a.png", predictor, picture, keypoints=["nose"])))
    large = cv2.imread(str(write_look(tmp_path / "b.png", predictor, picture)))
    assert large.size > 2 * small.size
    with pytest.raises(ConfigError, match="did you mean 'nose'"):
        write_look(tmp_path / "c.png", predictor, picture, keypoints=["nse"])
    with pytest.raises(PosekitError, match="a picture's name"):
        write_look(tmp_path / "c.txt", predictor, picture)


def test_what_has_no_attention_to_show_is_named(make_model, predictor, picture):
    with pytest.raises(PredictionError, match="has 2 blocks"):
        inspect(predictor, picture, block=2)
    windows = make_model({"a": head(SCHEMA_A)}, attention="window", window=(2, 2))
    with pytest.raises(PredictionError, match="inside windows"):
        inspect(Predictor(windows, device="cpu"), picture)
    plain = make_model({"a": head(SCHEMA_A)})
    plain.backbone.vit = torch.nn.Identity()
    with pytest.raises(PredictionError, match="no plain ViT"):
        inspect(Predictor(plain, device="cpu"), picture)
