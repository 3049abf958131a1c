"""From images to scores: a model that sees coloured dots, on images written in the test."""

from __future__ import annotations

import json

import cv2
import eval_helpers as helpers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from posekit.adapters.base import Instance
from posekit.codecs import build_codec
from posekit.config.cards import dataset_card_from_dict
from posekit.data.index import build_index
from posekit.errors import ConfigError, DatasetError, PredictionError
from posekit.evaluation.baseline import MeanPose
from posekit.evaluation.registry import evaluate, protocol_of
from posekit.evaluation.runner import evaluate_model, write_results
from posekit.models import HeadSpec, PoseHead
from posekit.poses.read import read_predictions
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema

NUM = 3
INPUT = (128, 96)
SCHEMA = KeypointSchema(
    name="dots",
    keypoints=("middle", "left_end", "right_end"),
    flip_pairs=(("left_end", "right_end"),),
    sigmas=(0.05,) * NUM,
    sigmas_source="made in the test",
)


class DotModel(nn.Module):
    """Sees red, green and blue dots; green is the left of the two outer ones in any crop."""

    head_names = ("dots",)

    def __init__(self, codec: dict, sides_by_place: bool = True):
        super().__init__()
        self.spec = HeadSpec(SCHEMA, {"kind": "simple"}, codec, INPUT)
        self.codec = build_codec(codec, INPUT)
        self.sides_by_place = sides_by_place
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))

    def head(self, name: str) -> PoseHead:
        return PoseHead(self.spec, self.codec, nn.Identity())

    def normalise(self, images):
        return images.permute(0, 3, 1, 2).float() / 255

    def forward(self, images, groups):
        maps = F.interpolate(images, size=self.codec.heatmap_size, mode="area")
        if self.sides_by_place:
            columns = torch.arange(maps.shape[-1])
            place = (maps.sum(2) * columns).sum(-1) / maps.sum((2, 3)).clamp(min=1e-6)
            is_swapped = place[:, 1] > place[:, 2]
            maps = torch.where(is_swapped[:, None, None, None], maps[:, [0, 2, 1]], maps)
        return {groups[0][0]: maps}


@pytest.fixture
def index(tmp_path):
    rng = np.random.default_rng(0)
    instances = []
    for i in range(6):
        image = np.zeros((200, 220, 3), np.uint8)
        x, y = rng.integers(60, 120, 2)
        points = np.asarray([[x, y - 30], [x - 30, y + 10], [x + 30, y + 20]], np.float32)
        for k, (px, py) in enumerate(points):
            colour = [0, 0, 0]
            colour[2 - k] = 255
            cv2.circle(image, (int(px), int(py)), 5, colour, -1)
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        visibility = np.full(NUM, 2, np.uint8)
        box = np.asarray([x - 45, y - 50, 90, 100], float)
        instances.append(
            Instance(f"{i}.png", i, i + 10, points, visibility, box, 4000.0, image_size=(200, 220))
        )
    (tmp_path / "a.json").write_text("{}")
    return make_index(tmp_path, instances)


def make_index(folder, instances, **card):
    data = {
        "name": "dots",
        "source": "made in the test",
        "licence": "none",
        "subject": "person",
        "schema": helpers.card_schema(SCHEMA),
        "adapter": "coco_json",
        "splits": {"val": {"annotations": "a.json"}},
        "evaluator": "pck",
        "protocol": {"thresholds": [0.03, 0.1]},
        **card,
    }
    loaded = dataset_card_from_dict(data, "dots.yaml")
    return build_index(loaded, folder, "val", folder / "cache", adapter=lambda *_: iter(instances))


@pytest.mark.parametrize(
    "codec",
    [{"kind": "msra"}, {"kind": "udp", "refine": "dark_udp"}, {"kind": "udp", "refine": "none"}],
)
@pytest.mark.parametrize("flip", [False, True])
def test_dots_are_found_in_image_pixels_with_and_without_flip_test(index, codec, flip):
    model = DotModel(codec)
    scores, predictions = evaluate_model(
        model, "dots", index, settings={"flip_test": flip}, batch_size=4
    )
    errors = np.linalg.norm(predictions.keypoints - index.columns.keypoints, axis=2)
    assert errors.max() < 4  # the dots spread over heatmap pixels of 4 x 4
    assert scores.value == 1.0
    assert scores.protocol["data_hash"] == index.data_hash
    assert scores.protocol["decoder"].startswith(codec["kind"])
    assert scores.protocol["shift_flipped"] == (codec["kind"] == "msra")


def test_the_flip_test_trades_left_and_right(index):
    """A head that knows colours but not sides contradicts itself in the mirror."""
    blind = DotModel({"kind": "udp"}, sides_by_place=False)
    alone, _ = evaluate_model(blind, "dots", index, settings={"flip_test": False})
    mirrored, _ = evaluate_model(blind, "dots", index, settings={"flip_test": True})
    assert alone.value == 1.0
    assert mirrored.value < 0.9


def test_the_batch_size_and_workers_change_nothing(index):
    model = DotModel({"kind": "udp"})
    _, one = evaluate_model(model, "dots", index, batch_size=1)
    _, many = evaluate_model(model, "dots", index, batch_size=64, workers=1)
    np.testing.assert_allclose(one.keypoints, many.keypoints, atol=1e-4)
    np.testing.assert_array_equal(one.instance_id, many.instance_id)


def test_progress_counts_the_boxes_from_the_first_batch_to_all(index):
    told = []
    _, found = evaluate_model(
        DotModel({"kind": "udp"}),
        "dots",
        index,
        batch_size=1,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(number, len(found)) for number in range(1, len(found) + 1)]


def test_results_are_written_and_score_the_same_when_read_back(index, tmp_path):
    scores, predictions = evaluate_model(DotModel({"kind": "udp"}), "dots", index)
    folder = tmp_path / "eval"
    files = write_results(folder, scores, predictions, index, extra={"baseline": {"PCK": 0.1}})
    assert [f.name for f in files] == ["metrics.json", "keypoints.csv", "predictions.json"]
    data = json.loads(files[0].read_text())
    assert data["metrics"] == scores.metrics
    assert data["baseline"] == {"PCK": 0.1}
    read = read_predictions(files[-1], SCHEMA, index.columns).predictions
    assert evaluate(index.card, index.columns, read).metrics == scores.metrics


def test_detector_boxes_are_cropped_and_scored_by_oks(index, tmp_path):
    columns = index.columns
    boxes = [
        {"image_id": int(columns.image_id[i]), "category_id": 1, "bbox": box.tolist(), "score": 0.9}
        for i, box in enumerate(columns.box_xywh)
    ]
    boxes.append({**boxes[0], "score": 0.01})
    boxes.append({**boxes[0], "category_id": 9})
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(boxes))
    oks_index = make_index_again(index, evaluator="oks", protocol={})
    settings = {"boxes": str(file), "min_box_score": 0.05}
    scores, predictions = evaluate_model(
        DotModel({"kind": "udp"}), "dots", oks_index, settings=settings
    )
    assert len(predictions) == 6
    assert scores.metrics["AP"] == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="scored instance by instance, which needs boxes"):
        evaluate_model(DotModel({"kind": "udp"}), "dots", index, settings=settings)


def make_index_again(index, **card):
    c = index.columns
    instances = [
        Instance(
            c.image_path[i].decode(),
            int(c.image_id[i]),
            int(c.instance_id[i]),
            np.array(c.keypoints[i]),
            np.array(c.visibility[i]),
            np.array(c.box_xywh[i]),
            float(c.area[i]),
        )
        for i in range(len(c))
    ]
    return make_index(index.root, instances, name="again", **card)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([{"image_id": 99, "bbox": [1, 2, 3, 4], "score": 1}], "record 0: .*found 99, .*no image"),
        (
            [{"image_id": 1, "bbox": [1, 2, 3], "score": 1}],
            r"record 0: field 'bbox': found \[1, 2, 3\]",
        ),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4]}], "record 0: field 'score' is missing"),
        ({"boxes": []}, "found dict, expected a list of objects"),
    ],
)
def test_wrong_box_files_are_named(index, tmp_path, boxes, message):
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(boxes))
    oks_index = make_index_again(index, evaluator="oks", protocol={})
    with pytest.raises(PredictionError, match=message):
        evaluate_model(DotModel({"kind": "udp"}), "dots", oks_index, settings={"boxes": str(file)})


def test_a_missing_image_stops_the_evaluation(index):
    (index.root / "3.png").unlink()
    with pytest.raises(DatasetError, match=r"3\.png: there is no such image"):
        evaluate_model(DotModel({"kind": "udp"}), "dots", index)


def test_a_head_of_another_schema_is_refused(index):
    model = DotModel({"kind": "udp"})
    model.spec = HeadSpec(helpers.make_schema(NUM), {}, {"kind": "udp"}, INPUT)
    with pytest.raises(ConfigError, match="head 'dots' predicts the 3 keypoints of schema 'small'"):
        evaluate_model(model, "dots", index)


def test_an_unknown_head_names_the_nearest(index):
    with pytest.raises(ConfigError, match="no head named 'dotz'; did you mean 'dots'"):
        evaluate_model(DotModel({"kind": "udp"}), "dotz", index)


def test_the_protocol_can_change_refinement_padding_and_shift(index):
    model = DotModel({"kind": "udp"})
    settings = {"refine": "none", "padding": 1.5, "shift_flipped": True}
    scores, predictions = evaluate_model(model, "dots", index, settings=settings)
    _, plain = evaluate_model(model, "dots", index)
    assert "refine none" in scores.protocol["decoder"]
    assert scores.protocol["shift_flipped"] is True
    ratio = predictions.input_area / plain.input_area
    np.testing.assert_allclose(ratio, (1.5 / 1.25) ** 2)


def test_the_mean_pose_is_the_best_constant_pose(index):
    pose = MeanPose.fit(index)
    predictions = pose.predict(index)
    assert isinstance(predictions, Poses)
    errors = np.linalg.norm(predictions.keypoints - index.columns.keypoints, axis=2)
    assert errors.max() < 1e-3
    assert pose.training_pck == 1.0
    scores = evaluate(index.card, index.columns, predictions, protocol_of(index.card))
    assert scores.value == 1.0


def test_an_instance_without_a_usable_box_is_left_out(index):
    again = make_index_again(index)
    c = again.columns
    instances = [
        Instance(
            c.image_path[i].decode(),
            int(c.image_id[i]),
            int(c.instance_id[i]),
            np.array(c.keypoints[i]),
            np.array(c.visibility[i]),
            np.asarray([5, 5, 0, 0], float) if i == 2 else np.array(c.box_xywh[i]),
        )
        for i in range(len(c))
    ]
    broken = make_index(again.root, instances, name="broken")
    scores, predictions = evaluate_model(DotModel({"kind": "udp"}), "dots", broken)
    assert predictions.left_out == {(2, 12)}
    assert scores.counts["instances"] == 5
