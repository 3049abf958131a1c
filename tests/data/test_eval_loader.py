"""EvalLoader: every crop once, exact, in a fixed order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_data import make_instance

from posekit.data.eval_loader import DetectedBoxes, EvalLoader
from posekit.data.images import read_image
from posekit.errors import DatasetError
from posekit.warp import crop_matrices, inverse_crop_matrices, transform_points, warp_image

SIZE = (64, 48)


@pytest.mark.parametrize("warp", ["udp", "plain"])
def test_each_trainable_row_comes_once_as_its_exact_crop(make_index, warp):
    instances = [make_instance(i) for i in range(7)]
    instances[2].visibility[:] = 0
    index = make_index(instances=instances)
    loader = EvalLoader(index, SIZE, warp, batch_size=4)
    batches = list(loader)
    assert len(loader) == len(batches) == 2
    assert np.concatenate([batch.rows for batch in batches]).tolist() == [0, 1, 3, 4, 5, 6]
    for batch in batches:
        assert batch.images.dtype == torch.uint8
        for image, row in zip(batch.images, batch.rows, strict=True):
            # ViTPose's box is one pixel smaller, so is its centre; 39 high at aspect 3:4, padded.
            x, y, w, h = index.columns.box_xywh[row]
            center, size = [x + (w - 1) / 2, y + (h - 1) / 2], [39 * 1.25 * 3 / 4, 39 * 1.25]
            matrix = crop_matrices(np.array([center]), np.array([size]), 0.0, SIZE, warp)[0]
            expected = warp_image(read_image(index.image_file(row)), matrix, SIZE)
            np.testing.assert_array_equal(image.numpy(), expected)


def test_centre_and_size_take_points_back_to_the_image(make_index):
    index = make_index(3)
    [batch] = EvalLoader(index, SIZE, "udp")
    there = crop_matrices(batch.center, batch.size, 0.0, SIZE, "udp")
    back = inverse_crop_matrices(batch.center, batch.size, 0.0, SIZE, "udp")
    points = index.columns.keypoints[batch.rows]
    again = transform_points(transform_points(points, there), back)
    np.testing.assert_allclose(again, points, atol=1e-9)


def test_order_is_by_image_so_that_each_is_decoded_once(make_index, monkeypatch):
    shared = [make_instance(i, image=f"images/{i % 2}.png", image_id=i % 2) for i in range(6)]
    index = make_index(instances=shared)
    read = []
    monkeypatch.setattr(
        "posekit.data.eval_loader.read_image",
        lambda *a: read.append(a) or read_image(*a),
    )
    [batch] = EvalLoader(index, SIZE, "udp")
    assert batch.rows.tolist() == [0, 2, 4, 1, 3, 5]
    assert len(read) == 2


def test_detected_boxes_are_cropped_without_clipping(make_index):
    index = make_index(3)
    boxes = DetectedBoxes(
        np.array([2, 0]), np.array([[-20.0, 5.0, 30.0, 40.0], [1.0, 2.0, 60.0, 8.0]])
    )
    [batch] = EvalLoader(index, SIZE, "udp", boxes=boxes)
    assert batch.rows.tolist() == [1, 0]
    assert batch.center.tolist() == [[31, 6], [-5, 25]]
    np.testing.assert_allclose(batch.size, [[75, 100], [37.5, 50]])


def test_chosen_rows_and_workers_give_the_same_crops(make_index):
    index = make_index(9)
    rows = np.array([8, 1, 4])
    here = list(EvalLoader(index, SIZE, "udp", rows=rows, batch_size=2))
    there = list(EvalLoader(index, SIZE, "udp", rows=rows, batch_size=2, workers=1))
    assert [batch.rows.tolist() for batch in here] == [[1, 4], [8]]
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.images, other.images)
        assert one.rows.tolist() == other.rows.tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_an_error_that_names_it(make_index, workers):
    index = make_index(3)
    index.image_file(1).write_bytes(b"broken")
    with pytest.raises(DatasetError, match=r"1.png: it cannot be decoded"):
        list(EvalLoader(index, SIZE, "udp", workers=workers))


def test_a_row_without_a_box_is_an_error(make_index):
    nothing = make_instance(0, box_xywh=None, visibility=np.zeros(5, np.uint8))
    index = make_index(instances=[nothing])
    with pytest.raises(DatasetError, match=r"row 0: there is no box to crop around"):
        list(EvalLoader(index, SIZE, "udp", rows=np.array([0])))
