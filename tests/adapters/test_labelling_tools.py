"""COCO-style exports of labelling tools, with what is odd about each."""

import json

import numpy as np
import pytest
from format_writers import NAMES, SCHEMA, TRUTH, triples

from posekit.adapters import EmptyImage
from posekit.adapters.coco_json import read
from posekit.config.cards import SplitCard
from posekit.errors import DatasetError


def cvat():
    """Labels beside the skeleton, a task's images in folders, occlusion as visibility 1."""
    person = triples(TRUTH[0])
    person[2] = 1
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": ""},
        "categories": [
            {"id": 1, "name": "cage", "supercategory": "", "keypoints": [], "skeleton": []},
            {"id": 2, "name": "mouse", "keypoints": list(NAMES), "skeleton": [[1, 2]]},
        ],
        "images": [
            {"id": 1, "width": 90, "height": 80, "file_name": "job_3/a.jpg", "license": 0},
            {"id": 2, "width": 90, "height": 80, "file_name": "job_3/b.jpg", "license": 0},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 2,
                "segmentation": [],
                "area": 4000.0,
                "bbox": [5.0, 6.0, 35.0, 35.0],
                "iscrowd": 0,
                "attributes": {"occluded": False, "track_id": 0, "keyframe": True},
                "keypoints": person,
                "num_keypoints": 4,
            },
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 0},
        ],
    }


def label_studio(file_name="images\\1\\a.jpg"):
    """Every id from 0, a Windows path, points as decimals."""
    return {
        "images": [{"width": 90, "height": 80, "id": 0, "file_name": file_name}],
        "categories": [{"id": 0, "name": "mouse", "keypoints": list(NAMES)}],
        "annotations": [
            {
                "id": 0,
                "image_id": 0,
                "category_id": 0,
                "segmentation": [],
                "bbox": [5.0, 6.0, 35.0, 35.0],
                "ignore": 0,
                "iscrowd": 0,
                "area": 1225.0,
                "keypoints": triples(TRUTH[1]),
            }
        ],
    }


def load(folder, data):
    (folder / "a.json").write_text(json.dumps(data))
    return list(read(folder, SplitCard(annotations="a.json", images="img"), SCHEMA))


def test_a_cvat_export_reads_without_its_labels_that_have_no_points(tmp_path):
    items = load(tmp_path, cvat())
    assert len(items) == 2
    assert items[0].image == "img/job_3/a.jpg"
    assert items[0].category_id == 2
    np.testing.assert_array_equal(items[0].visibility, [1, 2, 2, 2])
    assert isinstance(items[1], EmptyImage)


def test_a_label_studio_export_reads_with_its_zeros(tmp_path):
    (item,) = load(tmp_path, label_studio())
    assert (item.image_id, item.instance_id, item.category_id) == (0, 0, 0)
    assert item.image == "img/images/1/a.jpg"
    np.testing.assert_array_equal(item.visibility, [2, 0, 2, 2])


@pytest.mark.parametrize("name", ["../../label-studio/media/a.jpg", "/data/upload/a.jpg"])
def test_paths_of_a_server_are_refused_with_what_to_do(tmp_path, name):
    with pytest.raises(DatasetError, match=r"image 0: image name .* below the image folder"):
        load(tmp_path, label_studio(name))
