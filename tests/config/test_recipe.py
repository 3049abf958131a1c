from pathlib import Path

import pytest
from pydantic import BaseModel

from posekit.config.cards import available
from posekit.config.recipe import Recipe, load_recipe, recipe_from_dict
from posekit.engine.setup import read_heads
from posekit.errors import ConfigError


def _minimal(**changes):
    data = {
        "name": "x",
        "backbone": {"name": "vit", "embed_dim": 8, "depth": 1, "num_heads": 1, "patch_size": 16},
        "heads": {"coco": {"dataset": "coco"}},
        "training": {"steps": 1},
    }
    return {**data, **changes}


@pytest.mark.parametrize("name", available("recipes"))
def test_every_shipped_recipe_loads_and_its_cards_exist(name):
    heads = read_heads(load_recipe(name))
    assert heads


@pytest.mark.parametrize("name", available("recipes"))
def test_a_resolved_recipe_is_the_recipe_again(name, tmp_path):
    recipe = load_recipe(name)
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(file) == recipe


def test_a_path_below_recipes_names_the_shipped_recipe():
    assert load_recipe("recipes/quickstart.yaml") == load_recipe("quickstart")


def test_overrides_reach_every_depth_and_text_becomes_numbers():
    recipe = load_recipe(
        "quickstart", ["optimizer.lr=1e-3", "heads.coco.loss_weight=2", "data_root=/x"]
    )
    assert recipe.optimizer.lr == pytest.approx(1e-3)
    assert recipe.heads["coco"].loss_weight == 2
    assert recipe.data_root == "/x"


def test_yaml_reads_1e_3_as_text_and_the_recipe_as_a_number(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("extends: quickstart\noptimizer: {lr: 1e-3}\n", encoding="utf-8")
    assert load_recipe(file).optimizer.lr == pytest.approx(1e-3)


def test_a_length_given_on_the_command_line_replaces_the_other_kind():
    recipe = load_recipe("quickstart", ["training.epochs=3"])
    assert (recipe.training.epochs, recipe.training.steps) == (3, None)


def test_extends_lays_a_recipe_upon_another_and_null_drops_a_head(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "extends: quickstart\nheads: {wflw: null, coco: {loss_weight: 3}}\n", encoding="utf-8"
    )
    recipe = load_recipe(file)
    assert set(recipe.heads) == {"coco", "aic", "mpii", "ap10k"}
    assert recipe.heads["coco"].loss_weight == 3
    assert recipe.heads["coco"].head == load_recipe("quickstart").heads["coco"].head


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trainnig": {}}, r"unknown key 'trainnig'; did you mean 'training'"),
        ({"training": {"stps": 3}}, r"unknown key 'training.stps'; did you mean 'steps'"),
        (
            {"heads": {"a": {"dataset": "coco", "inputsize": [1, 2]}}},
            r"unknown key 'heads.a.inputsize'; did you mean 'input_size'",
        ),
        (
            {"heads": {"a": {"dataset": "coco", "augmentation": {"flp": 0}}}},
            r"heads.a.augmentation: unknown key 'flp'; did you mean 'flip'",
        ),
        ({"backbone": {"embed_dm": 3}}, r"unknown key 'backbone.embed_dm'; did you mean"),
        ({"heads": {}}, "needs at least one head"),
        ({"training": {}}, "exactly one of 'epochs' and 'steps'"),
        ({"training": {"steps": 3, "epochs": 3}}, "exactly one of 'epochs' and 'steps'"),
        ({"training": {"steps": "many"}}, r"key 'training.steps': .*found 'many'"),
        (
            {"data": {"sampling": {"strategy": "weights", "weights": {"cocoa": 1}}}},
            "names the unknown heads",
        ),
        ({"data": {"sampling": {"strategy": "weights"}}}, "needs the key 'weights'"),
    ],
)
def test_a_wrong_recipe_names_key_and_nearest_key(change, words):
    with pytest.raises(ConfigError, match=words):
        recipe_from_dict(_minimal(**change), "file.yaml")


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        load_recipe("quikstart")


def test_an_unknown_dataset_names_the_head_and_the_nearest(tmp_path):
    recipe = recipe_from_dict(_minimal(heads={"people": {"dataset": "cocco"}}))
    with pytest.raises(ConfigError, match=r"head 'people'.*did you mean 'coco'"):
        read_heads(recipe)


def test_every_key_of_a_recipe_is_read_somewhere():
    """A key that nothing reads would be a flag that does nothing."""
    package = Path(__file__).resolve().parents[2] / "posekit"
    code = (
        "\n".join(
            file.read_text(encoding="utf-8")
            for file in package.rglob("*.py")
            if file.name not in {"recipe.py", "augmentation.py", "model.py", "transfer.py"}
        )
        + (package / "config/recipe.py").read_text(encoding="utf-8").partition("def load_recipe")[0]
    )
    unread = [name for name in _field_names(Recipe) if f".{name}" not in code]
    assert set(unread) <= {"notes"}  # the recipe's own documentation


def _field_names(model: type[BaseModel]) -> set[str]:
    names: set[str] = set()
    for name, field in model.model_fields.items():
        names.add(name)
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                names |= _field_names(part)
    return names


@pytest.mark.parametrize("name", available("recipes"))
def test_a_shipped_recipe_measures_gradients_only_where_heads_move_the_backbone(name):
    recipe = load_recipe(name)
    if recipe.pretraining is not None or recipe.freeze.backbone is True:
        assert recipe.training.gradient_report_every == 0
