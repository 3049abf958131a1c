"""The transfer matrix: heads on datasets that share some of their keypoints."""

from __future__ import annotations

import cv2
import eval_helpers as helpers
import numpy as np
import pytest

from posekit.errors import ConfigError, PosekitError
from posekit.evaluation import cross
from posekit.evaluation.cross import TransferMatrix, cross_evaluate, score_shared
from posekit.schema import KeypointSchema

HEAD = KeypointSchema("head", ("nose", "left_hand", "right_hand", "belly", "tail"))
DATA = KeypointSchema("data", ("right_hand", "left_hand", "nose", "head_top"))


class Index:
    """The little of a PoseIndex that scoring needs."""

    def __init__(self, schema, columns):
        self.schema, self.columns = schema, columns


def problem():
    rng = np.random.default_rng(0)
    points = np.round(rng.uniform(0, 100, (6, len(DATA), 2)))
    truth = helpers.make_truth(points, np.ones((6, len(DATA)), bool))
    of_head = np.zeros((6, len(HEAD), 2))
    for k, name in enumerate(DATA.keypoints[:3]):
        of_head[:, HEAD.index(name)] = points[:, k]
    predictions = helpers.make_predictions(of_head, truth, scores=np.ones((6, len(HEAD))))
    return Index(DATA, truth), predictions, points


def test_only_shared_keypoints_are_scored():
    index, predictions, _ = problem()
    assert score_shared(index, predictions, np.asarray([2, 1, 0, -1])) == 1.0
    with_crown = np.asarray([2, 1, 0, 3])
    assert score_shared(index, predictions, with_crown) == pytest.approx(0.75, abs=0.05)


def test_the_matrix_has_a_place_for_every_head_and_dataset(monkeypatch, tmp_path):
    index, predictions, _ = problem()
    other = Index(KeypointSchema("mouse", ("snout", "tail")), index.columns)

    class Model:
        head_names = ("body",)

        def head(self, name):
            return type("Head", (), {"schema": HEAD})

    monkeypatch.setattr(cross, "predict_split", lambda *_, **__: predictions)
    matrix = cross_evaluate(Model(), {"people": index, "mice": other})
    assert matrix.values[0, 0] == 1.0
    assert np.isnan(matrix.values[0, 1])
    assert matrix.shared.tolist() == [[3, 1]]
    assert "1.000 (3)" in matrix.text()
    assert matrix.to_dict()["body"]["mice"] == {"PCK@0.1": None, "shared": 1}
    with pytest.raises(ConfigError, match="no head named 'boby'"):
        cross_evaluate(Model(), {"people": index}, heads=["boby"])


def test_the_picture_is_brighter_where_the_value_is_higher(tmp_path):
    matrix = TransferMatrix(("a", "b"), ("x",), np.asarray([[0.1], [0.95]]), np.asarray([[3], [4]]))
    picture = cv2.imread(str(matrix.write_picture(tmp_path / "transfer.png")))
    top, bottom = picture[92 + 5, :, :], picture[92 + 46 + 5, :, :]  # above the letters
    cell = np.flatnonzero((top != picture[0, 0]).any(axis=1))
    assert len(cell) > 50
    assert top[cell].sum() < bottom[cell].sum()


def test_a_cell_without_a_value_keeps_the_grounds_colour(tmp_path):
    matrix = TransferMatrix(
        ("a", "b"), ("x",), np.asarray([[np.nan], [0.5]]), np.asarray([[0], [4]])
    )
    picture = cv2.imread(str(matrix.write_picture(tmp_path / "transfer.png")))
    assert (picture[92 + 5] == picture[0, 0]).all()
    assert (picture[92 + 46 + 5] != picture[0, 0]).any()


def test_a_picture_that_cannot_be_written_is_one_sentence(tmp_path):
    matrix = TransferMatrix(("a",), ("x",), np.asarray([[0.5]]), np.asarray([[3]]))
    with pytest.raises(PosekitError, match=r"transfer\.png: cannot be written \(No such file"):
        matrix.write_picture(tmp_path / "gone" / "transfer.png")
