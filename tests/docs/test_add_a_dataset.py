"""The tutorial docs/add_a_dataset.md, run as a reader would."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from doc_blocks import run_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add_a_dataset.md"
SHAPE = np.array([[40, 12], [30, 22], [50, 22], [40, 60]], float)


def write_mice(root):
    rng = np.random.default_rng(0)
    (root / "pictures").mkdir(parents=True)
    (root / "annotations").mkdir()
    names = [f"m{i // 5}x_{i % 5}.png" for i in range(30)]
    poses = SHAPE + rng.normal(size=(30, 4, 2)) + rng.uniform(0, 15, (30, 1, 2))
    for name in names:
        cv2.imwrite(str(root / "pictures" / name), np.full((80, 90, 3), 90, np.uint8))
    data = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "annotations": [
            {
                "id": i,
                "image_id": i,
                "category_id": 1,
                "bbox": [*pose.min(axis=0).tolist(), *np.ptp(pose, axis=0).tolist()],
                "keypoints": np.column_stack([pose, np.full(4, 2)]).ravel().tolist(),
            }
            for i, pose in enumerate(poses)
        ],
        "categories": [
            {"id": 1, "name": "mouse", "keypoints": ["nose", "L_Eye", "R_Eye", "tail base"]}
        ],
    }
    (root / "annotations" / "instances.json").write_text(json.dumps(data))


@pytest.mark.slow
def test_every_block_of_the_page_does_what_it_says(tmp_path, monkeypatch):
    write_mice(tmp_path / "mice")
    assert run_page(PAGE, tmp_path, monkeypatch) >= 12
    assert (tmp_path / "run" / "report.html").is_file()
