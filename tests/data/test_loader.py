"""MixedLoader: pure batches, the same with any workers, ranks and starts; bad records replaced."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from itertools import islice

import numpy as np
import pytest
import torch
from test_index import inflate
from toy_data import make_instance, paint

from posekit.config.augmentation import NO_AUGMENTATION, AugmentationConfig
from posekit.config.recipe import Sampling
from posekit.data.batch import Batch
from posekit.data.images import read_image
from posekit.data.loader import CropSource, MixedLoader
from posekit.data.make_batch import BatchMaker
from posekit.data.sampler import MixedSampler, Source
from posekit.errors import ConfigError, DatasetError

BRIGHT = AugmentationConfig(brightness=0.3, erase=0.3)


def sampler_of(data, batch_size=6, **more) -> MixedSampler:
    sources = [Source(name, one.index.name, one.index.trainable) for name, one in data.items()]
    return MixedSampler(sources, Sampling(strategy="equal"), batch_size, **more)


@pytest.fixture
def data(make_index) -> dict[str, CropSource]:
    return {
        "people": CropSource(make_index(9, "people"), (64, 48), "udp", BRIGHT),
        "animals": CropSource(make_index(5, "animals"), (64, 48), "plain", BRIGHT),
        "faces": CropSource(make_index(4, "faces"), (32, 32), "udp", BRIGHT),
    }


def take(loader, count, start=0) -> list[Batch]:
    batches = loader.batches(start)
    return [next(batches) for _ in range(count)]


def contents(batch: Batch) -> list:
    values: list = [batch.step, batch.errors]
    for part in batch.parts:
        values.append(part.images)
        for group in part.groups:
            values += [getattr(group, name) for name in group.__dataclass_fields__]
    return values


def assert_equal(one: Batch, other: Batch) -> None:
    assert len(contents(one)) == len(contents(other))
    for a, b in zip(contents(one), contents(other), strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_a_batch_has_a_part_for_each_input_size_with_groups_side_by_side(data):
    batch = MixedLoader(data, sampler_of(data)).batch(0)
    people, faces = batch.parts
    assert people.images.shape == (4, 64, 48, 3)
    assert faces.images.shape == (2, 32, 32, 3)
    assert people.images.dtype == torch.uint8
    assert [(g.head, g.start, g.stop) for g in people.groups] == [
        ("people", 0, 2),
        ("animals", 2, 4),
    ]
    [group] = faces.groups
    assert group.points.shape == (2, 5, 2)
    assert (group.points.dtype, group.visibility.dtype) == (torch.float32, torch.uint8)
    assert len(batch) == 6
    assert [g.head for g in batch.groups] == ["people", "animals", "faces"]


def test_a_batch_can_be_made_again(data):
    loader = MixedLoader(data, sampler_of(data))
    assert_equal(take(loader, 4)[3], loader.batch(3))


def test_starting_at_a_step_gives_what_an_uninterrupted_run_gets(data):
    sampler = sampler_of(data)
    whole = take(MixedLoader(data, sampler), 5)
    resumed = iter(MixedLoader(data, sampler_of(data), start_step=3))
    assert_equal(next(resumed), whole[3])
    assert_equal(next(resumed), whole[4])


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(data, workers):
    here = take(MixedLoader(data, sampler_of(data)), 5)
    there = take(MixedLoader(data, sampler_of(data), workers=workers), 5)
    for one, other in zip(here, there, strict=True):
        assert_equal(one, other)


def by_sample(batches) -> dict:
    found: dict = {}
    for batch in batches:
        for part in batch.parts:
            for group in part.groups:
                for i, row in enumerate(group.rows.tolist()):
                    image = part.images[group.start + i]
                    key = (group.head, row, group.points[i].numpy().tobytes())
                    found[key] = image.numpy().tobytes()
    return found


def test_two_ranks_together_make_the_samples_of_one_process(data):
    alone = MixedLoader(data, sampler_of(data, 12))
    ranks = [MixedLoader(data, sampler_of(data, 6, world_size=2, rank=r)) for r in range(2)]
    for step in range(4):
        together = by_sample([rank.batch(step) for rank in ranks])
        assert together == by_sample([alone.batch(step)])
        assert len(together) == 12


def test_another_seed_gives_other_crops_of_other_rows(data):
    one = MixedLoader(data, sampler_of(data, seed=1)).batch(0)
    other = MixedLoader(data, sampler_of(data, seed=2)).batch(0)
    assert not torch.equal(one.parts[0].images, other.parts[0].images)


def test_several_instances_of_an_image_are_decoded_once(make_index, monkeypatch):
    crowd = [make_instance(i, image="images/0.png", image_id=0) for i in range(12)]
    data = {"people": CropSource(make_index(instances=crowd), (64, 48), "udp", NO_AUGMENTATION)}
    read = []
    monkeypatch.setattr(
        "posekit.data.make_batch.read_image",
        lambda *a, **k: read.append(a) or read_image(*a, **k),
    )
    MixedLoader(data, sampler_of(data, 12)).batch(0)
    assert len(read) == 1


def break_images(index, rows) -> None:
    for row in rows:
        index.image_file(row).write_bytes(b"broken")


def test_a_broken_image_is_replaced_named_and_training_goes_on(make_index):
    index = make_index(40)
    break_images(index, [7])
    data = {"people": CropSource(index, (64, 48), "udp", BRIGHT)}
    loader = MixedLoader(data, sampler_of(data, 10))
    batches = take(loader, 8)
    errors = [error for batch in batches for error in batch.errors]
    assert len(errors) == 2
    assert all("7.png: it cannot be decoded as an image" in error for error in errors)
    assert all(len(batch) == 10 for batch in batches)
    bad = next(batch for batch in batches if batch.failures)
    assert 7 not in bad.groups[0].rows
    assert bad.failures[0].row == 7
    assert_equal(bad, loader.batch(bad.step))


def test_a_missing_image_is_replaced_by_the_next_row_of_the_order(make_index):
    index = make_index(10)
    index.image_file(4).unlink()
    data = {"people": CropSource(index, (64, 48), "udp", BRIGHT)}
    sampler = sampler_of(data, 10)
    [slot] = [slot for slot in sampler.batch(0) if slot.row == 4]
    place = sampler.batch(0).index(slot)
    batch = MixedLoader(data, sampler).batch(0)
    assert "4.png: there is no such image" in batch.errors[0]
    assert int(batch.groups[0].rows[place]) == sampler.substitute(slot, 1).row


def test_a_replaced_sample_has_pixels_and_keypoints_of_the_same_row(make_index):
    index = make_index(10)
    break_images(index, [4])
    data = {"people": CropSource(index, (64, 48), "udp", NO_AUGMENTATION)}
    group = MixedLoader(data, sampler_of(data, 10)).batch(0).groups[0]
    images = MixedLoader(data, sampler_of(data, 10)).batch(0).parts[0].images
    for i in range(10):
        x, y = group.points[i, 0].round().long().tolist()
        assert images[i, y, x, 0] > 150


def test_too_many_broken_images_stop_training(make_index):
    index = make_index(60)
    break_images(index, range(0, 60, 6))
    data = {"people": CropSource(index, (64, 48), "udp", BRIGHT)}
    batches = MixedLoader(data, sampler_of(data, 10)).batches()
    with pytest.raises(DatasetError, match=r"toy/train: \d+ of the \d+ samples drawn .* 5%") as e:
        list(islice(batches, 20))
    assert ".png" in str(e.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_without_images_stops_at_once_with_one_sentence(make_index, workers):
    data = {"people": CropSource(make_index(30, images=False), (64, 48), "udp", BRIGHT)}
    with pytest.raises(DatasetError, match=r"17 images .* in a row .* there is no such image"):
        next(MixedLoader(data, sampler_of(data), workers=workers).batches())


def test_heads_without_data_and_data_without_heads_are_refused(data):
    with pytest.raises(ConfigError, match="the sampler draws for heads"):
        MixedLoader({"people": data["people"]}, sampler_of(data))


def test_a_dataset_without_labels_is_refused(make_index):
    index = make_index(instances=[make_instance(0, visibility=np.zeros(5, np.uint8))])
    data = {"people": CropSource(index, (64, 48), "udp", BRIGHT)}
    sampler = MixedSampler([Source("people", "x", np.arange(1))], Sampling(), 2)
    with pytest.raises(DatasetError, match="none of its 1 instances can be trained on"):
        MixedLoader(data, sampler)


def test_what_a_worker_gets_does_not_grow_with_the_index(make_index, tmp_path):
    small = make_index(1)
    large = inflate(small, 200_000, tmp_path / "large")
    sizes = []
    for index in (small, large):
        data = {"people": CropSource(index, (64, 48), "udp", BRIGHT)}
        sizes.append(len(pickle.dumps(BatchMaker(data, sampler_of(data)))))
    assert abs(sizes[0] - sizes[1]) < 200


def test_a_worker_sends_crops_and_keypoints_but_no_heatmaps(data):
    _, parts, _ = BatchMaker(data, sampler_of(data))[0]
    images = sum(image.numel() for image, _ in parts)
    small = sum(
        value.nbytes
        for _, groups in parts
        for group in groups
        for value in group.values()
        if isinstance(value, np.ndarray)
    )
    assert images == 4 * 64 * 48 * 3 + 2 * 32 * 32 * 3
    assert small < 150 * 6


def test_a_large_jpeg_is_decoded_smaller_only_where_the_crop_is_much_smaller(make_index):
    one = make_instance(0, image="images/0.jpg", image_size=(640, 960))
    one.keypoints *= 10
    one.box_xywh *= 10
    big = np.repeat(np.repeat(paint(make_instance(0)), 10, axis=0), 10, axis=1)
    index = make_index(instances=[one], images=False)
    index.image_file(0).parent.mkdir()
    from PIL import Image  # noqa: PLC0415

    Image.fromarray(big).save(index.image_file(0), quality=95, subsampling=0)
    data = {"people": CropSource(index, (64, 48), "udp", NO_AUGMENTATION)}
    loader = MixedLoader(data, sampler_of(data, 1))
    batch = loader.batch(0)
    pixels, placement = loader._maker._sources["people"].read(0, 7.0)
    assert pixels.shape == (160, 240, 3)
    np.testing.assert_allclose(placement, [0.25, 0.25, -0.375, -0.375])
    for x, y in batch.groups[0].points[0].round().long().tolist():
        assert batch.parts[0].images[0, y, x].max() > 120


def test_batches_move_between_devices_whole(data):
    batch = MixedLoader(data, sampler_of(data)).batch(0)
    assert_equal(batch.to("cpu"), batch)
    assert batch.to("meta").parts[0].groups[0].points.device.type == "meta"


def test_a_terminated_worker_ends_quietly_and_ctrl_c_is_the_main_process_business(data):
    batches = MixedLoader(data, sampler_of(data), workers=1).batches()
    next(batches)
    [worker] = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGINT)
    next(batches)
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(timeout=20)
    assert worker.exitcode == 0
    batches.close()


def test_a_sample_crosses_from_worker_to_main_as_its_crop_and_a_few_numbers(data):
    packed = BatchMaker(data, sampler_of(data, 12))[0]
    shape = [image.shape for image, _ in packed[1]]
    pixels = sum(int(np.prod(one)) for one in shape)
    travelling = (packed[0], [(None, groups) for _, groups in packed[1]], packed[2])
    numbers = len(pickle.dumps(travelling))
    assert pixels == 8 * 64 * 48 * 3 + 4 * 32 * 32 * 3
    # 5 keypoints of 9 bytes, geometry of 49, and what each of the 3 groups costs as a whole
    assert numbers < 12 * (5 * 9 + 49) + 3 * 900


def test_no_heatmap_is_drawn_while_batches_are_made(data, monkeypatch):
    from posekit.codecs import heatmap  # noqa: PLC0415

    drawn = []
    for kind in (heatmap.UdpCodec, heatmap.MsraCodec, heatmap.UnbiasedCodec):
        monkeypatch.setattr(kind, "encode", lambda *_: drawn.append(1))
    take(MixedLoader(data, sampler_of(data)), 3)
    assert not drawn


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="Linux's own count")
def test_a_ten_times_longer_index_does_not_raise_the_memory_of_a_worker(make_index, tmp_path):
    """Beside its order of the epoch, 4 bytes a row; the columns stay in the files."""
    small = make_index(1)
    grown = []
    for rows in (30_000, 300_000):
        index = inflate(small, rows, tmp_path / str(rows))
        data = {"people": CropSource(index, (64, 48), "udp", BRIGHT)}
        grown.append(_own_kib_of_a_worker(pickle.dumps(BatchMaker(data, sampler_of(data)))))
    assert grown[1] - grown[0] < 270_000 * 4 / 1024 + 600


def _own_kib_of_a_worker(packed: bytes) -> float:
    """Fork, unpickle the steps, make three batches; gives by how much its own memory grew."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        before = _own_kib()
        steps = pickle.loads(packed)  # noqa: S301 - made above
        for step in range(3):
            steps[step]
        os.write(writer, str(_own_kib() - before).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        return float(answer.read())


def _own_kib() -> float:
    with open("/proc/self/smaps_rollup", encoding="ascii") as lines:
        return sum(float(line.split()[1]) for line in lines if line.startswith("Anonymous"))
