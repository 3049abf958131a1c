"""SLEAP files through sleap-io, which a small stand-in replaces where the extra is missing."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from format_writers import NAMES, SCHEMA, TRUTH

from posekit.adapters import EmptyImage
from posekit.adapters.sleap import read, write_frames
from posekit.config.cards import SplitCard
from posekit.errors import ConfigError, DatasetError

SPLIT = SplitCard(name="all", annotations="labels.slp", images="frames")


def animal(points, names=NAMES):
    return SimpleNamespace(
        skeleton=SimpleNamespace(node_names=list(names)), numpy=lambda: np.array(points)
    )


def frame(video, number, animals=(), predicted=()):
    image = np.zeros((4, 6, 3), np.uint8)
    image[1, 2] = (9, 8, 7)
    return SimpleNamespace(
        video=SimpleNamespace(filename=video),
        frame_idx=number,
        user_instances=list(animals),
        predicted_instances=list(predicted),
        image=image,
    )


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Give what the adapter makes of these frames."""
    (tmp_path / "labels.slp").touch()

    def run(frames, **options):
        module = ModuleType("sleap_io")
        module.load_file = lambda name: SimpleNamespace(labeled_frames=frames)
        monkeypatch.setitem(sys.modules, "sleap_io", module)
        return list(read(tmp_path, SPLIT.model_copy(update={"options": options}), SCHEMA))

    return run


def test_frames_of_videos_are_numbered_files_below_the_image_folder(load):
    frames = [frame("/home/me/v1.mp4", 17, [animal(TRUTH[0]), animal(TRUTH[1])])]
    instances = load(frames)
    assert [instance.image for instance in instances] == ["frames/v1/000017.png"] * 2
    np.testing.assert_allclose(instances[1].keypoints, np.nan_to_num(TRUTH[1]))
    np.testing.assert_array_equal(instances[1].visibility, [2, 0, 2, 2])


def test_frames_of_image_lists_keep_their_names(load, tmp_path):
    listed = ["a.png", str(tmp_path / "b" / "c.png")]
    instances = load([frame(listed, 0, [animal(TRUTH[0])]), frame(listed, 1, [animal(TRUTH[0])])])
    assert [instance.image for instance in instances] == ["frames/a.png", "b/c.png"]
    with pytest.raises(DatasetError, match="is an absolute path"):
        load([frame(["/elsewhere/a.png"], 0, [animal(TRUTH[0])])])


def test_nodes_are_matched_by_name(load):
    order = [3, 0, 2, 1]
    names = [NAMES[i].replace("_", "") for i in order]
    instance = load([frame("v.mp4", 0, [animal(TRUTH[0][order], names)])])[0]
    np.testing.assert_allclose(instance.keypoints, TRUTH[0])
    with pytest.raises(DatasetError, match=r"found keypoints 'beak'.*missed 'nose'"):
        load([frame("v.mp4", 0, [animal(TRUTH[0], ["beak", *NAMES[1:]])])])


def test_frames_without_labels_are_empty_unless_predictions_are_wanted(load):
    frames = [frame("v.mp4", 0, predicted=[animal(TRUTH[0])])]
    assert isinstance(load(frames)[0], EmptyImage)
    assert load(frames, predicted=True)[0].visibility.all()


def test_frames_are_written_once(load, tmp_path):
    load([])
    sys.modules["sleap_io"].load_file = lambda name: SimpleNamespace(
        labeled_frames=[frame("v.mp4", 3), frame("v.mp4", 4)]
    )
    assert write_frames(tmp_path, SPLIT) == 2
    assert write_frames(tmp_path, SPLIT) == 0
    import cv2  # noqa: PLC0415

    assert cv2.imread(str(tmp_path / "frames/v/000003.png"))[1, 2].tolist() == [7, 8, 9]


def test_a_file_that_sleap_io_cannot_load_is_named(load, tmp_path):
    load([])

    def fail(name):
        raise KeyError("metadata")

    sys.modules["sleap_io"].load_file = fail
    with pytest.raises(DatasetError, match=r"labels\.slp: sleap-io cannot load it \(KeyError"):
        list(read(tmp_path, SPLIT, SCHEMA))


def test_without_the_extra_the_error_names_it(tmp_path, monkeypatch):
    (tmp_path / "labels.slp").touch()
    monkeypatch.setitem(sys.modules, "sleap_io", None)
    with pytest.raises(ConfigError, match=r"pip install 'posekit\[lab\]'"):
        list(read(tmp_path, SPLIT, SCHEMA))


def test_a_real_slp_file_reads(tmp_path):
    sleap_io = pytest.importorskip("sleap_io", reason="needs the extra lab")
    import cv2  # noqa: PLC0415

    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((80, 90, 3), np.uint8))
    skeleton = sleap_io.Skeleton(nodes=list(NAMES))
    video = sleap_io.Video.from_filename([str(tmp_path / "a.png")])
    made = sleap_io.Instance.from_numpy(TRUTH[1], skeleton=skeleton)
    labels = sleap_io.Labels([sleap_io.LabeledFrame(video=video, frame_idx=0, instances=[made])])
    labels.save(str(tmp_path / "labels.slp"))
    instance = next(iter(read(tmp_path, SPLIT, SCHEMA)))
    assert instance.image == "a.png"
    np.testing.assert_allclose(instance.keypoints, np.nan_to_num(TRUTH[1]), atol=1e-5)
