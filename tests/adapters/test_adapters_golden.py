"""Parses of real files against what mmpose 1.3.2 makes of them, and counts of the shared data.

What is compared, and the differences that are meant:
- keypoints to 1e-3, in this library's 0-based pixels: MPII's joints, which mmpose leaves 1-based,
  lose 1; points that are not labelled stand at 0 here and anywhere there, and are left out;
- visibility as labelled or not (mmpose cuts codes above 1 down to 1);
- boxes to 1e-3 after clipping to the image, which mmpose does and posekit leaves to the index;
- crops where the annotation brings its own (MPII-TRB's is wrong in mmpose and not compared);
- mmpose drops crowds and instances without a labelled point, so they are dropped here first.
"""

import json

import numpy as np
import pytest

from posekit.adapters import EmptyImage, get_adapter
from posekit.config.cards import SplitCard, load_dataset_card

pytestmark = pytest.mark.shared

SETS = [
    "coco", "coco_wholebody", "crowdpose", "aic", "mpii", "mpii_trb", "ap10k", "animalpose",
    "ochuman", "mhp", "jhmdb", "halpe", "wflw", "300w", "cofw", "aflw", "coco_wholebody_face",
    "coco_wholebody_hand", "onehand10k", "freihand2d", "panoptic_hand2d", "rhd2d", "atrw", "fly",
    "deepfashion2",
]  # fmt: skip
# COCO-style copies of sets whose cards read the original files.
AS_COCO = {
    "aic": {},
    "wflw": {"crop": {"side": 200}},
    "300w": {"crop": {"side": 200}},
    "cofw": {},
}


def instances_of(name, reference):
    index = json.loads((reference / "samples" / "index.json").read_text())
    card = load_dataset_card(name)
    options = next(iter(card.splits.values())).options
    if name in AS_COCO:
        card, options = card.model_copy(update={"adapter": "coco_json"}), AS_COCO[name]
    split = SplitCard(name="all", annotations=index[name]["file"], options=options)
    items = list(get_adapter(card)(reference / "samples", split, card.keypoint_schema))
    return [item for item in items if not isinstance(item, EmptyImage)]


def usable(instances):
    return [i for i in instances if not i.is_crowd and (i.visibility > 0).any()]


def parsed_of(name, reference):
    parsed = json.loads((reference / "samples" / f"{name}.parsed.json").read_text())
    return parsed.get("train_and_test") or parsed["test"]


def clipped(instance):
    low, high = instance.box_xywh[:2], instance.box_xywh[:2] + instance.box_xywh[2:]
    corners = np.stack([low, high])
    if instance.image_size is not None:
        height, width = instance.image_size
        corners = corners.clip(0, [width - 1, height - 1])
    return corners.ravel()


@pytest.fixture(params=SETS)
def pair(request, reference):
    """The name of a set, and (ours, mmpose's) of each instance."""
    name = request.param
    ours, theirs = usable(instances_of(name, reference)), parsed_of(name, reference)
    assert len(ours) == len(theirs)
    if name == "mpii":
        key, ids = lambda i: i.instance_id - 1, [t["id"] for t in theirs]
    elif name == "coco_wholebody_hand":
        return name, matched_by_box(ours, theirs)
    else:
        key, ids = lambda i: i.instance_id, [t["id"] for t in theirs]
    by_id = {key(instance): instance for instance in ours}
    return name, [(by_id[i], t) for i, t in zip(ids, theirs, strict=True)]


def matched_by_box(ours, theirs):
    """mmpose numbers hands in an order of its own; a hand's box tells which it is."""
    free = list(ours)
    pairs = []
    for their in theirs:
        box = np.array(their["bbox"][0])
        at = min(range(len(free)), key=lambda i: np.abs(clipped(free[i]) - box).max())
        pairs.append((free.pop(at), their))
    return pairs


def test_keypoints_and_labels_equal_mmpose_s(pair):
    name, pairs = pair
    for our, their in pairs:
        labelled = np.array(their["keypoints_visible"][0]) > 0
        np.testing.assert_array_equal(our.visibility > 0, labelled)
        points = np.array(their["keypoints"][0]) - (1.0 if name in {"mpii", "mpii_trb"} else 0.0)
        np.testing.assert_allclose(our.keypoints[labelled], points[labelled], atol=1e-3)


def test_boxes_or_crops_equal_mmpose_s(pair):
    name, pairs = pair
    for our, their in pairs:
        if "bbox_scale" in their and name != "mpii_trb":
            np.testing.assert_allclose(our.crop_center, their["bbox_center"][0], atol=1e-3)
            np.testing.assert_allclose(our.crop_size, their["bbox_scale"][0], atol=1e-3)
        elif name == "freihand2d":  # there the box is replaced by the image, here the crop is
            center, size = our.crop_center, our.crop_size
            corners = np.concatenate([center - size / 2, center + size / 2])
            np.testing.assert_allclose(corners, their["bbox"][0], atol=1e-3)
        elif name != "mpii_trb":
            np.testing.assert_allclose(clipped(our), their["bbox"][0], atol=1e-3)


def test_areas_and_counted_keypoints_equal_mmpose_s(pair):
    name, pairs = pair
    for our, their in pairs:
        if our.area is not None and "area" in their:
            assert our.area == pytest.approx(their["area"], abs=1e-2)
        if "num_keypoints" in our.extras and "num_keypoints" in their and name != "mpii_trb":
            assert our.extras["num_keypoints"] == their["num_keypoints"]
        for key in ("box_size", "head_size", "crowd_index"):
            if key in their:
                assert our.extras[key] == pytest.approx(their[key])


def test_wflw_s_text_form_gives_the_crop_of_its_coco_form(reference, tmp_path):
    card = load_dataset_card("wflw")
    samples = instances_of("wflw", reference)
    lines = [
        " ".join(map(repr, [*i.keypoints.ravel().tolist(), 0, 0, 9, 9, 0, 0, 0, 0, 0, 0]))
        + " a.jpg"
        for i in samples
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    split = SplitCard(annotations="list.txt")
    for ours, sample in zip(
        get_adapter(card)(tmp_path, split, card.keypoint_schema), samples, strict=True
    ):
        np.testing.assert_array_equal(ours.crop_center, sample.crop_center)
        np.testing.assert_allclose(ours.crop_size, sample.crop_size)


@pytest.mark.parametrize(
    ("name", "counts", "labelled"),
    [
        ("lspet", {"train": 1600, "test": 400}, None),
        ("livestock_horse", {"train": 220, "val": 40, "test": 67}, 18),
        ("youtube_faces68", {"train": 1200, "test": 400}, 68),
        ("openfield_mouse", {"train": 93, "test": 23}, 4),
    ],
)
def test_the_shared_sets_have_the_counts_of_their_tables_and_all_images(
    shared_data, name, counts, labelled
):
    card = load_dataset_card(name)
    root = shared_data / card.folder
    images = []
    for split, count in counts.items():
        instances = list(get_adapter(card)(root, card.split(split), card.keypoint_schema))
        assert len(instances) == count
        assert all((root / instance.image).is_file() for instance in instances)
        if labelled:
            assert all((i.visibility > 0).sum() == labelled for i in instances)
        images += [{i.image for i in instances}]
    assert not set.intersection(*images)


@pytest.mark.parametrize(("split", "people", "labelled"), [("train", 172, 86), ("val", 118, 68)])
def test_coco_mini_has_the_counts_of_its_table(shared_data, split, people, labelled):
    card = load_dataset_card("coco")
    items = get_adapter(card)(shared_data / "coco_mini", card.split(split), card.keypoint_schema)
    instances = [item for item in items if not isinstance(item, EmptyImage)]
    assert len(instances) == people
    assert len(usable(instances)) == labelled


def test_both_forms_of_a_deeplabcut_file_hold_the_same(reference):
    card = load_dataset_card("openfield_mouse")
    both = [
        list(
            get_adapter(card)(reference / "samples", SplitCard(annotations=n), card.keypoint_schema)
        )
        for n in ("dlc_single_animal.csv", "dlc_single_animal.h5")
    ]
    assert len(both[0]) == len(both[1]) == 116
    for a, b in zip(*both, strict=True):
        assert a.image == b.image
        np.testing.assert_array_equal(a.keypoints, b.keypoints)


def test_pts_faces_read_where_they_have_68_points(shared_data):
    card = load_dataset_card("300w")
    split = SplitCard(annotations="pts_faces", options={"exclude": ["tongue.pts"]})
    instances = list(get_adapter(card)(shared_data, split, card.keypoint_schema))
    assert [instance.image for instance in instances] == [
        f"pts_faces/{name}" for name in ("breakingbad.jpg", "einstein.jpg", "takeo.ppm")
    ]


def test_mpii_head_sizes_equal_the_golden_evaluator_s_file(reference):
    from posekit.adapters.mpii_json import read_ground_truth  # noqa: PLC0415

    card = load_dataset_card("mpii")
    folder = reference / "evaluators"
    options = {"headboxes": "mpii_mpii_gt_val.mat"}
    split = SplitCard(annotations="mpii.annotations.json", options=options)
    instances = list(get_adapter(card)(folder, split, card.keypoint_schema))
    truth = read_ground_truth(folder / "mpii_mpii_gt_val.mat", card.keypoint_schema)
    assert len(instances) == 60
    for instance, missing, points in zip(instances, truth.is_missing, truth.points, strict=True):
        np.testing.assert_array_equal(instance.visibility == 0, missing)
        np.testing.assert_allclose(
            instance.keypoints[~missing], points[~missing] - 1, rtol=1e-6, atol=1e-3
        )
