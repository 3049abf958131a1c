"""What every adapter must do, on a file of its format written here."""

import numpy as np
import pytest
from format_writers import FORMATS, PLUG_INS, SCHEMA

from posekit.adapters import ADAPTERS, EmptyImage, check_instance, get_adapter
from posekit.config.cards import dataset_card_from_dict
from posekit.config.plug_ins import code_allowed
from posekit.errors import ConfigError, DatasetError


def card_of(adapter, split, schema=SCHEMA):
    data = {
        "name": "toy",
        "source": "made in the test",
        "licence": "none",
        "subject": "animal",
        "adapter": adapter,
        "splits": {"all": split.model_dump(exclude={"name"})},
        "evaluator": "pck",
        "schema": schema.to_dict(),
    }
    return dataset_card_from_dict(data, "toy")


def read_all(adapter, split, root, schema=SCHEMA):
    card = card_of(adapter, split, schema)
    return list(get_adapter(card)(root, card.split("all"), schema))


@pytest.fixture(params=[*FORMATS, *PLUG_INS])
def form(request):
    with code_allowed():
        yield {**FORMATS, **PLUG_INS}[request.param]


def test_every_built_in_adapter_is_exercised_here():
    elsewhere = {"sleap"}  # test_sleap.py, since it needs an extra
    assert {adapter for adapter, _, _ in FORMATS.values()} == set(ADAPTERS.built_in) - elsewhere


def test_it_yields_the_points_that_were_written(form, tmp_path):
    adapter, write, truth = form
    instances = read_all(adapter, write(tmp_path), tmp_path)
    assert len(instances) == len(truth)
    for instance, person in zip(instances, truth, strict=True):
        labelled = np.isfinite(person[:, 0])
        np.testing.assert_array_equal(instance.visibility, np.where(labelled, 2, 0))
        np.testing.assert_allclose(instance.keypoints, np.nan_to_num(person), atol=1e-5)


def test_it_keeps_the_contract_of_instances(form, tmp_path):
    adapter, write, _ = form
    instances = read_all(adapter, write(tmp_path), tmp_path)
    for instance in instances:
        check_instance(instance, SCHEMA, adapter)
    assert len({instance.instance_id for instance in instances}) == len(instances)
    assert len({frozenset(instance.extras) for instance in instances}) == 1


def test_images_lie_below_the_image_folder(form, tmp_path):
    adapter, write, _ = form
    for instance in read_all(adapter, write(tmp_path), tmp_path):
        assert instance.image.startswith("img/")


def test_reading_twice_gives_the_same(form, tmp_path):
    adapter, write, _ = form
    split = write(tmp_path)
    first, second = read_all(adapter, split, tmp_path), read_all(adapter, split, tmp_path)
    assert [i.instance_id for i in first] == [i.instance_id for i in second]
    assert all((a.keypoints == b.keypoints).all() for a, b in zip(first, second, strict=True))


def test_a_missing_file_is_named_with_what_to_do(form, tmp_path):
    adapter, write, _ = form
    split = write(tmp_path)
    missing = split.model_copy(update={"annotations": "nowhere/gone.json", "options": {}})
    with pytest.raises(DatasetError, match=r"gone\.json.*found nothing here.*data root"):
        read_all(adapter, missing, tmp_path)


def test_a_missing_root_is_named(form, tmp_path):
    adapter, write, _ = form
    with pytest.raises(DatasetError, match=r"nowhere: found nothing here, expected a folder"):
        read_all(adapter, write(tmp_path), tmp_path / "nowhere")


def test_a_mistyped_option_names_the_split_and_the_key(form, tmp_path):
    adapter, write, _ = form
    split = write(tmp_path)
    wrong = split.model_copy(update={"options": {**split.options, "one_basedd": True}})
    with pytest.raises(ConfigError, match=r"split 'all', options: unknown key 'one_basedd'"):
        read_all(adapter, wrong, tmp_path)


def test_a_schema_of_another_number_of_keypoints_is_refused(form, tmp_path):
    adapter, write, _ = form
    smaller = type(SCHEMA)("smaller", SCHEMA.keypoints[:3])
    with pytest.raises(DatasetError):
        read_all(adapter, write(tmp_path), tmp_path, smaller)


def test_the_subset_option_shares_out_whole_images(form, tmp_path):
    adapter, write, _ = form
    split = write(tmp_path)

    def kept(rule):
        options = {**split.options, "subset": rule}
        part = split.model_copy(update={"options": options})
        return [i.image for i in read_all(adapter, part, tmp_path)]

    everything = [i.image for i in read_all(adapter, split, tmp_path)]
    assert kept({"keep_every": 2}) == [everything[1]]
    assert kept({"leave_out_every": 2}) == [everything[0], everything[2]]
    shares = kept({"fraction": [0.0, 0.4]}), kept({"fraction": [0.4, 1.0]})
    assert sorted(shares[0] + shares[1]) == sorted(everything)
    (tmp_path / "list.txt").write_text(f"{everything[2].removeprefix('img/')}\n")
    by_list = kept({"list": "list.txt"}) if split.images else [everything[2]]
    assert by_list == [everything[2]]


def test_an_image_without_instances_is_told(tmp_path):
    adapter, write, _ = FORMATS["deeplabcut csv"]
    split = write(tmp_path)
    with (tmp_path / "CollectedData_me.csv").open("a") as stream:
        stream.write("img/empty.jpg,,,,,,,,\n")
    last = read_all(adapter, split, tmp_path)[-1]
    assert isinstance(last, EmptyImage)
    assert last.image == "img/empty.jpg"
