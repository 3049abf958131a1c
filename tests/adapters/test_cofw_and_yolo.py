"""COFW's HDF5, YOLO-pose and detection files: what is particular to each, and their faults."""

import cv2
import h5py
import numpy as np
import pytest
from format_writers import IMAGES, SCHEMA, TRUTH, YOLO_YAML, write_cofw, write_yolo

from posekit.adapters import EmptyImage, cofw_mat, yolo_pose
from posekit.adapters.image_size import image_size
from posekit.config.cards import SplitCard
from posekit.errors import DatasetError


def test_cofw_marks_occluded_landmarks(tmp_path):
    instances = list(cofw_mat.read(tmp_path, write_cofw(tmp_path, occluded=1), SCHEMA))
    assert all((instance.visibility == 1).all() for instance in instances)
    np.testing.assert_array_equal(instances[0].box_xywh, [1, 2, 70, 66])


def test_cofw_images_are_written_once_as_they_are_shown(tmp_path):
    split = write_cofw(tmp_path)
    assert cofw_mat.write_images(tmp_path, split) == len(IMAGES)
    instance = next(cofw_mat.read(tmp_path, split, SCHEMA))
    image = cv2.imread(str(tmp_path / instance.image))
    assert image.shape == (5, 7, 3)
    assert image[1, 2].tolist() == [0, 100, 200]  # OpenCV gives blue first
    (tmp_path / instance.image).write_bytes(b"kept")
    cofw_mat.write_images(tmp_path, split)
    assert (tmp_path / instance.image).read_bytes() == b"kept"


def test_cofw_faults_are_named(tmp_path):
    split = write_cofw(tmp_path)
    with h5py.File(tmp_path / "cofw.mat", "a") as store:
        del store["bboxesT"]
    with pytest.raises(DatasetError, match=r"expected an array bboxesTr or bboxesT, found IsT"):
        list(cofw_mat.read(tmp_path, split, SCHEMA))
    with h5py.File(tmp_path / "cofw.mat", "a") as store:
        store["bboxesT"] = np.zeros((4, 2))
    with pytest.raises(DatasetError, match=r"landmarks of 3 faces and boxes of 2"):
        list(cofw_mat.read(tmp_path, split, SCHEMA))


def yolo(root, **options):
    split = SplitCard(name="train", annotations="data.yaml", options=options)
    return list(yolo_pose.read(root, split, SCHEMA))


def test_yolo_boxes_and_classes(tmp_path):
    write_yolo(tmp_path)
    instance = yolo(tmp_path)[0]
    np.testing.assert_allclose(instance.box_xywh, [1, 2, 70, 66])
    assert (instance.category_id, instance.image_size) == (0, (80, 90))
    assert all(isinstance(item, EmptyImage) for item in yolo(tmp_path, classes=[3]))


def test_yolo_labels_lie_in_labels_beside_images(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "img" / "a.jpg").rename(tmp_path / "images" / "a.jpg")
    (tmp_path / "img" / "a.txt").rename(tmp_path / "labels" / "a.txt")
    (tmp_path / "data.yaml").write_text(YOLO_YAML.replace("train: img", "train: list.txt"))
    (tmp_path / "list.txt").write_text("./images/a.jpg\nimg/b.jpg\n")
    instances = yolo(tmp_path)
    assert [instance.image for instance in instances] == ["images/a.jpg", "img/b.jpg"]
    np.testing.assert_allclose(instances[0].keypoints, TRUTH[0], atol=1e-4)


def test_yolo_images_without_labels_are_empty(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "img" / "a.txt").unlink()
    assert isinstance(yolo(tmp_path)[0], EmptyImage)


def test_yolo_points_without_visibility_are_unlabelled_at_the_corner(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(YOLO_YAML.replace("[4, 3]", "[4, 2]"))
    for name in ("b", "c"):
        (tmp_path / "img" / f"{name}.txt").unlink()
    (tmp_path / "img" / "a.txt").write_text("0 .5 .5 1 1 .5 .5 0 0 0 .5 .25 .25\n")
    np.testing.assert_array_equal(yolo(tmp_path)[0].visibility, [2, 0, 2, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (YOLO_YAML.replace("[4, 3]", "[5, 3]"), r"names 5 keypoints, expected the 4"),
        (YOLO_YAML.replace("[4, 3]", "4"), r"kpt_shape: found 4, expected \[keypoints, 2 or 3\]"),
        (YOLO_YAML.replace("[0, 2, 1, 3]", "[0, 1, 2, 3]"), r"flip_idx is \[0, 1, 2, 3\].*correct"),
        (YOLO_YAML.replace("train", "trian"), r"it has no part 'train' \(parts: val\)"),
        (YOLO_YAML.replace("train: img", "train: ../img"), r"does not name a file below"),
        (
            YOLO_YAML.replace("train: img", "train: gone"),
            r"gone: found nothing here, expected a fo",
        ),
        ("a: [", r"data\.yaml: the file, line 1: not valid YAML"),
    ],
)
def test_yolo_faults_of_the_yaml_are_named(tmp_path, text, message):
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DatasetError, match=message):
        yolo(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 .5 .5 1 1", r"a\.txt, line 1: found 5 numbers, expected 17.*kpt_shape"),
        ("0 45 40 90 80" + " .5 .5 2" * 4, r"numbers far outside 0 to 1.*divide pixels"),
        ("0 .5 .5 1 1" + " .5 .5 7" * 4, r"found visibility \[7\.0\], expected 0, 1 or 2"),
        ("mouse .5 .5 1 1" + " .5 .5 2" * 4, r"column: found 'mouse', expected a number"),
        ("0.5 .5 .5 1 1" + " .5 .5 2" * 4, r"class: found '0\.5', expected a whole number"),
    ],
)
def test_yolo_faults_of_a_line_are_named(tmp_path, text, message):
    write_yolo(tmp_path)
    (tmp_path / "img" / "a.txt").write_text(text)
    with pytest.raises(DatasetError, match=message):
        yolo(tmp_path)


def test_the_size_of_a_turned_photograph_is_that_shown(tmp_path):
    from PIL import Image  # noqa: PLC0415

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (40, 30)).save(tmp_path / "plain.png")
    assert image_size(tmp_path / "turned.jpg") == (40, 30)
    assert image_size(tmp_path / "plain.png") == (30, 40)
    (tmp_path / "no.jpg").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"no\.jpg: not a readable image"):
        image_size(tmp_path / "no.jpg")


def test_a_header_that_claims_a_monstrous_size_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((80, 90, 3), np.uint8))
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(DatasetError, match=r"a\.jpg: not a readable image \(DecompressionBomb"):
        image_size(tmp_path / "a.jpg")
