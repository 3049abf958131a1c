"""CropStore: the same crops as from the files, made once."""

from __future__ import annotations

import errno
import pickle

import numpy as np
import pytest
from toy_data import make_instance, paint, write_image

from posekit.config.augmentation import AugmentationConfig
from posekit.config.recipe import Sampling
from posekit.data.augment import KeyedDraws
from posekit.data.crop_store import CropStore, open_store
from posekit.data.crops import CropSource, draw_samples, image_to_crop
from posekit.data.loader import MixedLoader
from posekit.data.neighbourhood import Reach, neighbourhoods
from posekit.data.sampler import MixedSampler, Source
from posekit.errors import DatasetError, PosekitError

WILD = AugmentationConfig(
    rotation=180, rotation_draw="uniform", shift_once=False, half_body_labelled=4
)
SIZE = (64, 48)


def head_of(index, config=WILD, warp="udp") -> CropSource:
    return CropSource(index, SIZE, warp, config)


def loader_of(index, config=WILD, warp="udp", **more) -> MixedLoader:
    data = {"toy": head_of(index, config, warp)}
    sampler = MixedSampler([Source("toy", index.name, index.trainable)], Sampling(), 8)
    return MixedLoader(data, sampler, **more)


@pytest.mark.parametrize("warp", ["udp", "plain"])
def test_crops_from_the_store_equal_those_from_the_files(make_index, tmp_path, warp):
    index = make_index(8)
    stored = loader_of(index, warp=warp, cache="store", cache_dir=tmp_path)
    direct = loader_of(index, warp=warp)
    for step in range(20):
        one, other = stored.batch(step).parts[0].images, direct.batch(step).parts[0].images
        assert (one.int() - other.int()).abs().max() <= 1


def test_a_shrunk_neighbourhood_gives_nearly_the_same_crop(make_index, tmp_path):
    """Smooth images four times larger than the crop needs: stored at 1.5 times the crop."""
    one = make_instance(0, image_size=(512, 768))
    one.keypoints *= 8
    one.box_xywh *= 8
    index = make_index(instances=[one], images=False)
    y, x = np.mgrid[:512, :768]
    waves = np.stack([np.sin(x / 40), np.cos(y / 30), np.sin((x + y) / 50)], axis=-1)
    write_image(index.image_file(0), (127 + 100 * waves).astype(np.uint8))
    stored = loader_of(index, cache="store", cache_dir=tmp_path)
    direct = loader_of(index)
    pixels, placement = open_store(head_of(index), tmp_path).read(0)
    assert pixels.shape[0] < 300
    assert placement[0] == pytest.approx(1.5 * 48 / (319 * 1.25 * 0.75), rel=0.05)
    for step in range(5):
        one, other = stored.batch(step).parts[0].images, direct.batch(step).parts[0].images
        assert (one.float() - other.float()).abs().mean() < 2


def test_a_second_opening_reads_no_image(make_index, tmp_path, monkeypatch):
    index = make_index(8)
    first = open_store(head_of(index), tmp_path)

    def refuse(*_):
        raise AssertionError("an image was read")

    monkeypatch.setattr("posekit.data.crop_store.read_row_image", refuse)
    again = open_store(head_of(index), tmp_path)
    assert again.folder == first.folder
    assert again.read(3)[0].shape == first.read(3)[0].shape


def test_a_changed_image_or_a_wider_augmentation_makes_another_store(make_index, tmp_path):
    index = make_index(8)
    first = open_store(head_of(index), tmp_path).folder
    write_image(index.image_file(2), paint(make_instance(5))[:, ::-1] // 2)
    second = open_store(head_of(index), tmp_path).folder
    wider = WILD.model_copy(update={"scale": 0.7})
    third = open_store(head_of(index, wider), tmp_path).folder
    assert len({first, second, third}) == 3
    colours = WILD.model_copy(update={"brightness": 0.7, "flip": 0.1})
    assert open_store(head_of(index, colours), tmp_path).folder == second


def test_neighbourhoods_hold_whatever_augmentation_draws(make_index):
    index = make_index(8)
    for warp in ("udp", "plain"):
        for rotation in (0.0, 20.0, 45.0, 180.0):
            config = WILD.model_copy(update={"rotation": rotation})
            head = head_of(index, config, warp)
            rows = np.repeat(np.arange(8), 60)
            boxes, _ = neighbourhoods(head, rows, Reach.of(head, 1.5))
            samples = draw_samples(head, rows, np.tile(np.arange(60), 8), KeyedDraws(0, "x"))
            matrices = image_to_crop([s.geometry for s in samples], SIZE, warp)
            corners = np.array([[0, 0], [47, 0], [0, 63], [47, 63]], float)
            for matrix, (x0, y0, x1, y1) in zip(matrices, boxes, strict=True):
                back = np.linalg.inv(matrix[:, :2]) @ (corners - matrix[:, 2]).T
                assert back[0].min() >= x0
                assert back[0].max() <= x1 - 1
                assert back[1].min() >= y0
                assert back[1].max() <= y1 - 1


def test_beyond_the_limit_it_is_kept_as_jpeg_and_stays_close(make_index, tmp_path):
    index = make_index(8)
    y, x = np.mgrid[:64, :96]
    write_image(index.image_file(4), np.stack([x, y * 2, x + y], axis=-1).astype(np.uint8))
    plain = open_store(head_of(index), tmp_path)
    small = open_store(head_of(index), tmp_path, raw_limit_mib=0.001)
    assert small.is_jpeg
    assert not plain.is_jpeg
    assert small.nbytes < plain.nbytes
    difference = small.read(4)[0].astype(int) - plain.read(4)[0]
    assert np.abs(difference).mean() < 2


def test_what_could_not_be_read_fails_again_when_it_is_asked_for(make_index, tmp_path):
    index = make_index(20)
    index.image_file(6).write_bytes(b"broken")
    store = open_store(head_of(index), tmp_path)
    with pytest.raises(DatasetError, match=r"6.png: it cannot be decoded as an image; replace"):
        store.read(6)
    batch = next(
        b for b in loader_of(index, cache="store", cache_dir=tmp_path).batches() if b.failures
    )
    assert "6.png" in batch.errors[0]


def test_a_store_pickles_as_its_path(make_index, tmp_path):
    store = open_store(head_of(make_index(8)), tmp_path)
    data = pickle.dumps(store)
    assert len(data) < 500
    np.testing.assert_array_equal(pickle.loads(data).read(2)[0], store.read(2)[0])  # noqa: S301


def test_workers_cut_from_the_store(make_index, tmp_path):
    index = make_index(8)
    here = loader_of(index, cache="store", cache_dir=tmp_path).batches()
    there = loader_of(index, cache="store", cache_dir=tmp_path, workers=1).batches()
    for _ in range(3):
        assert (next(here).parts[0].images == next(there).parts[0].images).all()


def test_progress_is_told_and_workers_make_the_same_store(make_index, tmp_path):
    index = make_index(40)
    told = []
    one = open_store(head_of(index), tmp_path / "a", progress=lambda n, of: told.append((n, of)))
    other = open_store(head_of(index), tmp_path / "b", workers=2)
    assert told == [(32, 40), (40, 40)]
    for name in ("pixels.bin", "placement.npy", "slot.npy"):
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_a_full_disk_leaves_nothing_behind(make_index, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    index = make_index(8)
    monkeypatch.setattr("posekit.data.crop_store.np.save", full)
    with pytest.raises(PosekitError, match="No space left on device"):
        open_store(head_of(index), tmp_path / "full")
    assert list((tmp_path / "full" / "crops").iterdir()) == []


def test_a_cut_off_store_is_made_anew(make_index, tmp_path):
    index = make_index(8)
    folder = open_store(head_of(index), tmp_path).folder
    with (folder / "pixels.bin").open("rb+") as stream:
        stream.truncate(1000)
    with pytest.raises(ValueError, match="length"):
        CropStore(folder)
    assert open_store(head_of(index), tmp_path).read(7)[0].size > 0
