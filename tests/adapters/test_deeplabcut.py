"""DeepLabCut labels: both forms, several animals, old paths; and names read without unpickling."""

import pickle

import h5py
import numpy as np
import pytest
from format_writers import (
    NAMES,
    SCHEMA,
    TRUTH,
    dlc_rows,
    write_dlc_csv,
    write_dlc_table,
    write_rows,
)

from posekit.adapters import EmptyImage
from posekit.adapters.deeplabcut import read
from posekit.adapters.pandas_hdf import parse_names
from posekit.config.cards import SplitCard
from posekit.errors import DatasetError

FILE = "CollectedData_me.csv"


def load(root, name=FILE, **options):
    split = SplitCard(name="all", annotations=name, options=options)
    return list(read(root, split, SCHEMA))


def several_animals(extra=()):
    columns = [(who, name, axis) for who in ("m1", "m2") for name in NAMES for axis in "xy"]
    columns += [("single", name, axis) for name in extra for axis in "xy"]
    return [
        ["scorer", "", "", *(["me"] * len(columns))],
        ["individuals", "", "", *(who for who, _, _ in columns)],
        ["bodyparts", "", "", *(name for _, name, _ in columns)],
        ["coords", "", "", *(axis for _, _, axis in columns)],
    ]


def test_several_animals_yield_one_instance_each_where_labelled(tmp_path):
    both = [*TRUTH[0].ravel(), *TRUTH[2].ravel()]
    first = [*TRUTH[0].ravel(), *[""] * 8]
    rows = [
        ["labeled-data", "v", f"{i}.png", *row] for i, row in enumerate((both, first, [""] * 16))
    ]
    write_rows(tmp_path / FILE, [*several_animals(), *rows])
    instances = load(tmp_path)
    assert [i.image for i in instances] == [f"labeled-data/v/{i}.png" for i in (0, 0, 1, 2)]
    assert isinstance(instances[-1], EmptyImage)
    np.testing.assert_allclose(instances[1].keypoints, TRUTH[2])


def test_unique_body_parts_belong_to_no_animal(tmp_path):
    row = ["labeled-data", "v", "0.png", *TRUTH[0].ravel(), *[""] * 8, 5, 6]
    write_rows(tmp_path / FILE, [*several_animals(["corner"]), row])
    assert len(load(tmp_path)) == 1


def test_body_parts_of_other_words_need_names(tmp_path):
    rows = dlc_rows()
    rows[1] = [cell.replace("tailbase", "Schwanz") for cell in rows[1]]
    write_rows(tmp_path / FILE, rows)
    with pytest.raises(
        DatasetError, match=r"found keypoints 'Schwanz'.*missed 'tail_base'.*'names'"
    ):
        load(tmp_path)
    assert len(load(tmp_path, names={"Schwanz": "tail_base"})) == 3


def test_paths_of_the_labeller_s_machine_are_cut_to_the_project(tmp_path):
    rows = dlc_rows()
    rows[3][0] = "/home/me/mice/labeled-data/v/a.png"
    rows[4][0] = "labeled-data\\v\\b.png"
    write_rows(tmp_path / FILE, rows)
    images = [instance.image for instance in load(tmp_path)]
    assert images[:2] == ["labeled-data/v/a.png", "labeled-data/v/b.png"]


def test_a_folder_reads_all_its_videos_and_no_video_twice(tmp_path):
    for video in ("b", "a"):
        (tmp_path / "labeled-data" / video).mkdir(parents=True)
        write_dlc_csv(tmp_path / "labeled-data" / video)
    write_dlc_table(tmp_path / "labeled-data" / "a")
    instances = load(tmp_path, "labeled-data")
    assert [instance.instance_id for instance in instances] == [1, 2, 3, 4, 5, 6]


def test_a_folder_without_labels_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"found no CollectedData_\*\.csv or \.h5 below it"):
        load(tmp_path, "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.pop(0), r"header: its first column starts with"),
        (lambda rows: rows[3].pop(), r"line 4: found 8 cells, expected 9"),
        (lambda rows: rows[3].__setitem__(1, "x"), r"line 4: coordinate: found 'x'"),
        (lambda rows: rows[3].__setitem__(1, ""), r"'nose' has only one of x and y"),
        (lambda rows: rows[2].__setitem__(2, "likelihood"), r"likelihood columns.*predictions"),
        (lambda rows: rows[2].__setitem__(2, "z"), r"has a column 'z', expected x or y"),
        (lambda rows: rows[2].__setitem__(2, "x"), r"column appears twice"),
        (lambda rows: rows[3].__setitem__(0, "../a.png"), r"does not name a file below"),
    ],
)
def test_csv_faults_are_named(tmp_path, change, message):
    rows = dlc_rows()
    change(rows)
    write_rows(tmp_path / FILE, rows)
    with pytest.raises(DatasetError, match=message):
        load(tmp_path)


class Evil:
    def __reduce__(self):
        return (open, ("planted", "w"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_names_are_read_without_running_the_pickle(protocol, tmp_path, monkeypatch):
    names = [("me", "nose", "x"), ("me", "nose", "y"), ("me", "ö", "x")]
    assert parse_names(pickle.dumps(names, protocol)) == names
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="which names do not need"):
        parse_names(pickle.dumps([Evil()], protocol))
    assert not (tmp_path / "planted").exists()


def test_an_h5_file_with_a_hostile_pickle_is_refused(tmp_path):
    name = write_dlc_table(tmp_path).annotations
    with h5py.File(tmp_path / name, "a") as store:
        table = store["df_with_missing/table"]
        table.attrs["values_block_0_kind"] = np.bytes_(pickle.dumps([Evil()], 0))
    with pytest.raises(DatasetError, match=r"the opcode GLOBAL, which names do not need"):
        load(tmp_path, name)


def test_a_damaged_h5_file_is_named(tmp_path):
    name = write_dlc_table(tmp_path).annotations
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match=r"not a readable pandas HDF5 file"):
        load(tmp_path, name)
    with h5py.File(tmp_path / name, "w") as store:
        store["x"] = 1
    with pytest.raises(DatasetError, match=r"found 0 pandas frames, expected one"):
        load(tmp_path, name)


@pytest.mark.parametrize(
    "data", [b"\x80\x04N\x85r\xff\xff\xff\x7f.", b"e.", b"(.", b"]", b"h\x05."]
)
def test_damaged_pickled_names_are_refused_without_taking_memory(data):
    with pytest.raises(ValueError, match=r"damaged|opcode|exhausted|STOP|needs"):
        parse_names(data)
