"""The predictor answers as the evaluation does, for every form of image and box."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from inference_helpers import SCHEMA_A, SCHEMA_B, head
from PIL import Image

from posekit.config.cards import BoxCard
from posekit.errors import CheckpointError, PosekitError, PredictionError
from posekit.inference.predictor import HeadPoses, Predictor, load
from posekit.models import save_checkpoint
from posekit.warp import crop_matrices, crop_size_for, inverse_crop_matrices, warp_image

BOXES = np.array([[20.0, 10, 60, 90], [70, 30, 50, 50]])


@pytest.fixture
def predictor(make_model) -> Predictor:
    return Predictor(make_model(), device="cpu")


def test_keypoints_equal_a_slow_crop_by_crop_run(make_model, picture):
    """The steps of the evaluation, written out for one box at a time."""
    model = make_model()
    got = Predictor(model, device="cpu", batch_size=1).predict(picture, BOXES, head="a")
    for i, (x, y, w, h) in enumerate(BOXES):
        center = np.array([[x + w / 2, y + h / 2]])
        size = crop_size_for(np.array([[w, h]]), (64, 48), 1.25)
        crop = warp_image(picture, crop_matrices(center, size, 0, (64, 48), "udp")[0], (64, 48))
        with torch.no_grad():
            images = model.normalise(torch.from_numpy(crop)[None])
            codec = model.head("a").codec
            maps = codec.to_heatmap(model(images, [("a", slice(0, 1))])["a"])
            points, scores = codec.decode(maps)
        back = inverse_crop_matrices(center, size, 0, (64, 48), "udp")[0]
        expected = points[0].double().numpy() @ back[:, :2].T + back[:, 2]
        assert np.abs(got.keypoints[i] - expected).max() < 1e-4
        assert got.scores[i] == pytest.approx(scores[0].numpy(), abs=1e-5)


def test_the_text_of_a_predictor_names_size_device_and_heads(make_model):
    text = repr(Predictor(make_model(), device="cpu"))
    assert re.fullmatch(
        r"Predictor with 0\.\d M parameters on cpu; heads \(keypoints\): a \(3\), b \(4\)", text
    )


def test_batches_over_images_and_boxes_change_nothing(make_model, picture):
    images = [picture, picture[:, ::-1].copy(), picture[:60]]
    boxes = [BOXES, BOXES[:1], None]
    model = make_model({"b": head(SCHEMA_B, "msra")})
    whole = Predictor(model, device="cpu", batch_size=32).predict(images, boxes)
    small = Predictor(model, device="cpu", batch_size=2).predict(images, boxes)
    assert whole.image_index.tolist() == [0, 0, 1, 2]
    assert np.abs(whole.keypoints - small.keypoints).max() < 1e-3
    single = Predictor(model, device="cpu").predict(images[1], BOXES[:1])
    assert np.abs(whole.keypoints[2] - single.keypoints[0]).max() < 1e-3


def test_all_heads_in_one_backbone_pass_equal_each_head_alone(make_model, picture):
    model = make_model()
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    predictor = Predictor(model, device="cpu")
    together = predictor.predict(picture, BOXES, head="all")
    assert isinstance(together, HeadPoses)
    assert len(calls) == 1
    for name in ("a", "b"):
        alone = predictor.predict(picture, BOXES, head=name)
        assert np.abs(together[name].keypoints - alone.keypoints).max() < 1e-4


def test_every_crop_passes_the_backbone_exactly_once(make_model, picture):
    """Counted over several images, boxes and batches, with all heads asked for."""
    model = make_model()
    rows: list[int] = []
    model.backbone.register_forward_hook(lambda _module, args, _out: rows.append(len(args[0])))
    predictor = Predictor(model, device="cpu", batch_size=2)
    images, boxes = [picture, picture[:60], picture], [BOXES, None, np.tile(BOXES, (2, 1))]
    poses = predictor.predict(images, boxes, head="all")
    assert sum(rows) == len(poses["a"]) == len(poses["b"]) == 7
    assert max(rows) <= 2


def test_heads_of_other_crops_and_experts_get_their_own_pass(make_model, picture):
    heads = {"a": head(SCHEMA_A), "b": head(SCHEMA_B, "msra"), "c": head(SCHEMA_B, size=(64, 64))}
    for model, passes in (
        (make_model(heads), 3),
        (make_model(experts={"width": 8}), 2),
    ):
        calls: list[int] = []
        model.backbone.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        Predictor(model, device="cpu").predict(picture, BOXES, head="all")
        assert len(calls) == passes


def test_the_box_rule_of_a_head_is_followed(make_model, picture):
    tight = Predictor(make_model(), {"a": BoxCard(padding=1.0)}, device="cpu")
    usual = Predictor(make_model(), device="cpu")
    assert np.abs(
        tight.predict(picture, BOXES, "a").keypoints - usual.predict(picture, BOXES, "a").keypoints
    ).max() > 1  # fmt: skip


def test_the_flip_test_of_a_mirrored_image_gives_the_mirrored_pose(make_model, picture):
    predictor = Predictor(make_model(), device="cpu", flip_test=True)
    whole = np.array([[0.0, 0, picture.shape[1] - 1, picture.shape[0] - 1]])
    poses = predictor.predict(picture, whole, head="a")
    mirrored = predictor.predict(picture[:, ::-1].copy(), whole, head="a")
    back = mirrored.keypoints[:, SCHEMA_A.flip_indices]
    back[..., 0] = picture.shape[1] - 1 - back[..., 0]
    assert np.abs(back - poses.keypoints).max() < 0.5  # untrained maps are flat, peaks are shaky


def as_tensor(a):
    return torch.from_numpy(a).permute(2, 0, 1)


@pytest.mark.parametrize(
    "form",
    [
        Image.fromarray,
        as_tensor,
        lambda a: as_tensor(a).float() / 255,
        lambda a: a.astype(np.float64) / 255,
        lambda a: a.astype(np.uint16) * 257,
        lambda a: np.dstack([a, np.full(a.shape[:2], 9, np.uint8)]),
    ],
    ids=["pil", "tensor", "float tensor", "float", "16 bit", "rgba"],
)
def test_every_form_of_an_image_gives_the_same_keypoints(predictor, picture, form):
    expected = predictor.predict(picture, BOXES, head="a").keypoints
    assert predictor.predict(form(picture), BOXES, head="a").keypoints == pytest.approx(expected)


def test_several_images_as_one_tensor_are_several_images(predictor, picture):
    batch = torch.stack([as_tensor(picture)] * 2)
    poses = predictor.predict(batch, head="a")
    assert poses.image_names == ("image 0", "image 1")
    assert poses.keypoints[0] == pytest.approx(poses.keypoints[1])


def test_no_boxes_give_no_poses_and_no_images_neither(predictor, picture):
    poses = predictor.predict([picture, picture], [[], BOXES], head="a")
    assert poses.image_index.tolist() == [1, 1]
    none = predictor.predict(picture, np.zeros((0, 4)), head="a")
    assert (len(none), none.image_names) == (0, ("image 0",))
    empty = predictor.predict([], head="all")
    assert empty["b"].keypoints.shape == (0, len(SCHEMA_B), 2)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([500, 10, 20, 20], r"box 0 .*outside the image of 160 x 120 pixels"),
        ([10, 10, 0, 20], r"box 0 .*positive size"),
        ([[1, 1, 9, 9], [np.nan, 1, 9, 9]], r"box 1 .*finite"),
        ([1, 2, 3], r"shape \(3,\), expected \(N, 4\)"),
        ("left", r"expected \(N, 4\)"),
    ],
)
def test_boxes_that_cannot_be_are_named(predictor, picture, boxes, message):
    with pytest.raises(PredictionError, match=message):
        predictor.predict(picture, boxes, head="a")


def test_a_box_partly_outside_is_used(predictor, picture):
    assert np.isfinite(predictor.predict(picture, [-30, -20, 80, 90], head="a").keypoints).all()


def test_boxes_for_another_number_of_images_are_refused(predictor, picture):
    with pytest.raises(PredictionError, match=r"boxes for 1 images.*each of the 2 images"):
        predictor.predict([picture, picture], [BOXES], head="a")


def test_a_wrong_head_is_named_with_the_nearest(make_model, predictor, picture):
    with pytest.raises(
        PredictionError, match=r"several heads; choose one with head= \(a, b, all\)"
    ):
        predictor.predict(picture)
    model = make_model({"people": head(SCHEMA_A), "horse": head(SCHEMA_B)})
    with pytest.raises(PredictionError, match="did you mean 'people'"):
        Predictor(model, device="cpu").predict(picture, head="peple")


def test_a_saved_model_predicts_the_same_from_file_and_from_run_folder(make_model, tmp_path, photo):
    model = make_model()
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    file = run / "checkpoints" / "last.safetensors"
    save_checkpoint(file, model, {"boxes": {"a": {"padding": 1.1}}})
    expected = Predictor(model, {"a": BoxCard(padding=1.1)}, device="cpu").predict(
        photo, BOXES, "a"
    )
    for path in (file, run):
        got = load(path, device="cpu").predict(str(photo), BOXES, "a")
        assert got.keypoints == pytest.approx(expected.keypoints)
    assert got.image_names == (str(photo),)
    with pytest.raises(CheckpointError, match=r"found no checkpoints/last\.safetensors"):
        load(tmp_path)


def test_one_bad_file_is_named(predictor, tmp_path: Path, photo: Path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing")
    for path, message in ((broken, "broken.jpg"), (tmp_path / "gone.png", "no such image")):
        with pytest.raises(PosekitError, match=message):
            predictor.predict([photo, path], head="a")
