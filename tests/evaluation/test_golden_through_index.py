"""The same golden numbers by the way that users take: shipped card, adapter, index, protocol."""

from __future__ import annotations

import json

import pytest

from posekit.config.cards import load_dataset_card
from posekit.data.index import build_index
from posekit.evaluation.score import score_file

pytestmark = pytest.mark.shared

SETS = {
    "coco_synth": "coco",
    "coco_many": "coco",
    "coco_real": "coco",
    "aic_synth": "aic",
    "ap10k_synth": "ap10k",
    "animalpose_real": "animalpose",
    "crowdpose_synth": "crowdpose",
    "crowdpose_real": "crowdpose",
    "ochuman_real": "ochuman",
    "wholebody_real": "coco_wholebody",
    "wholebody_synth": "coco_wholebody",
}
POINTS = {
    "wflw": {"NME": "NME"},
    "300w": {"NME": "NME"},
    "cofw": {"NME": "NME"},
    "aflw": {"NME": "NME_box_size"},
    "onehand10k": {"PCK@0.2": "PCK_0p2", "AUC": "AUC_30", "EPE": "EPE"},
    "freihand2d": {"PCK@0.2": "PCK_0p2", "AUC": "AUC_30", "EPE": "EPE"},
    "fly": {"PCK@0.2": "PCK_0p2", "AUC": "AUC_30", "EPE": "EPE"},
    "jhmdb": {"PCK@0.2": "Jhmdb_0p2"},
}


def open_index(reference, cache, name, card_name, **options):
    card = load_dataset_card(card_name)
    split = next(iter(card.splits.values()))
    files = {"annotations": f"{name}.annotations.json", "images": ""}
    given = {**split.options, **options}
    update = {}
    # The goldens' files are COCO-style also where the dataset's own files are not.
    data = json.loads((reference / "evaluators" / files["annotations"]).read_text())
    if "annotations" in data and card.adapter != "coco_json":
        update["adapter"], given = "coco_json", options
    changed = split.model_copy(update={**files, "options": given})
    update["splits"] = {split.name: changed}
    card = card.model_copy(update=update)
    return build_index(card, reference / "evaluators", split.name, cache)


@pytest.mark.parametrize("name", SETS)
def test_oks_goldens_through_card_adapter_and_index(reference, tmp_path, name):
    index = open_index(reference, tmp_path, name, SETS[name])
    folder = reference / "evaluators"
    expected = json.loads((folder / f"{name}.expected.json").read_text())
    for level in expected["levels"].values():
        found = score_file(folder / level["predictions"], index, verify=True)
        wanted = level["metrics"]["oks_nms_0.9_bbox_keypoint"]
        assert {m: found.scores.metrics[m] for m in wanted} == pytest.approx(wanted, abs=1e-6)
        assert found.agrees
        settings = {"nms": "none", "score": "bbox"}
        plain = score_file(folder / level["predictions"], index, settings=settings)
        wanted = level["metrics"]["none_bbox"]
        assert {m: plain.scores.metrics[m] for m in wanted} == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("name", POINTS)
def test_point_goldens_through_card_adapter_and_index(reference, tmp_path, name):
    options = {"aflw": {"extras": {"box_size": "box_size"}}, "jhmdb": {"one_based": []}}
    settings = {"subsets": {}} if name == "wflw" else {}  # the golden file has no attributes
    index = open_index(reference, tmp_path, name, name, **options.get(name, {}))
    folder = reference / "evaluators"
    expected = json.loads((folder / f"{name}.expected.json").read_text())
    for level in expected["levels"].values():
        file = folder / level["predictions"]
        found = score_file(file, index, settings=settings).scores.metrics
        for metric, key in POINTS[name].items():
            values = level["metrics"][key]
            wanted = values.get("PCK", next(iter(values.values())))
            assert found[metric] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("inclusive", "key"), [(True, "vitpose_evaluate"), (False, "mmpose1_MpiiPCKAccuracy")]
)
def test_mpii_goldens_through_card_adapter_and_index(reference, tmp_path, inclusive, key):
    index = open_index(reference, tmp_path, "mpii", "mpii", headboxes="mpii_mpii_gt_val.mat")
    folder = reference / "evaluators"
    expected = json.loads((folder / "mpii.expected.json").read_text())
    for number, level in enumerate(expected["levels"].values()):
        records = json.loads((folder / level["predictions"]).read_text())
        for record in records:
            record["id"] = record.pop("index") + 1
        images = dict(
            zip(
                index.columns.instance_id.tolist(),
                index.columns.image_id[index.columns.image_index].tolist(),
                strict=True,
            )
        )
        for record in records:
            image = images[record["id"]]
            record["image_id"] = image.decode() if isinstance(image, bytes) else image
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(records))
        found = score_file(file, index, settings={"inclusive": inclusive}).scores.metrics
        assert list(found.values()) == pytest.approx(list(level[key].values()), abs=1e-4)
