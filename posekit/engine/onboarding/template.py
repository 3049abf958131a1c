"""The adapter to start from when a format is new."""

from __future__ import annotations

from pathlib import Path

from posekit.errors import ConfigError
from posekit.output import write_text

TEMPLATE = '''"""Reads annotations of one's own format: one JSON object a line.

    {"image": "cow_1.jpg", "points": {"nose": [12.5, 40.0], "left_ear": [3.0, 9.5]}}

Name this file in a dataset's card as `adapter: FILE.py:read`, beside the card, and run
the commands that read it with --allow-code.
"""

import json

import numpy as np

from posekit.adapters import Instance, adapter
from posekit.errors import DatasetError


@adapter
def read(root, split, schema):
    """Stream one Instance for every annotated subject.

    root is the dataset's folder, split the card's entry (annotations, images, options), schema
    its keypoints. Coordinates are pixels of the image, (x, y), 0-based, a pixel's centre at whole
    numbers: subtract 1 from formats that count from 1. Never open an image here.
    """
    file = root / split.annotations
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            record = json.loads(line)
            points = np.zeros((len(schema), 2), dtype=np.float32)
            # 0: not labelled (the point means nothing), 1: labelled but occluded, 2: visible.
            visibility = np.zeros(len(schema), dtype=np.uint8)
            for name, (x, y) in record["points"].items():
                if name not in schema.keypoints:
                    raise DatasetError(
                        file,
                        f"found keypoint '{name}', expected one of {', '.join(schema.keypoints)}",
                        record=f"line {number}",
                    )
                points[schema.index(name)] = x, y
                visibility[schema.index(name)] = 2
            yield Instance(
                image=f"{split.images}/{record['image']}".lstrip("/"),
                image_id=record["image"],
                instance_id=number,
                keypoints=points,
                visibility=visibility,
                # Leave these out where the format has none: box_xywh (x, y, width, height),
                # area, category_id, is_crowd, image_size (height, width).
            )
'''


def write_template(file: str | Path, *, overwrite: bool = False) -> Path:
    """Write an adapter to start from; it runs as it is, on lines of JSON.

    Raises:
        ConfigError: the name does not end in .py, or the file is there already.
        OutputError: it cannot be written.
    """
    file = Path(file).expanduser()
    if file.suffix != ".py":
        raise ConfigError(f"{file}: expected the name of a Python file, ending in .py")
    if file.exists() and not overwrite:
        raise ConfigError(f"{file}: it is there already; name another file, or --overwrite")
    return write_text(file, TEMPLATE)
