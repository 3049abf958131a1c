"""What each way of partial fine-tuning leaves to be trained.

    python benchmarks/trainable.py [RECIPE]

Builds the recipe's model without memory and counts.
"""

from __future__ import annotations

import sys

import torch

from posekit.config.model import FreezeConfig, LoraConfig
from posekit.config.recipe import load_recipe
from posekit.engine.setup import read_heads
from posekit.evaluation.tables import text_table
from posekit.models import build_model
from posekit.models.freeze import freeze

SWITCHES = {
    "nothing": FreezeConfig(),
    "attention": FreezeConfig(attention=True),
    "ffn": FreezeConfig(ffn=True),
    "ffn and stem (ViTPose's freeze_ffn)": FreezeConfig(ffn=True, stem=True),
    "stem": FreezeConfig(stem=True),
    "stem and first 6 blocks": FreezeConfig(stem=True, blocks=6),
    "backbone": FreezeConfig(backbone=True),
    "heads": FreezeConfig(heads=True),
}


def main() -> None:
    """Print the table."""
    recipe = load_recipe(sys.argv[1] if len(sys.argv) > 1 else "vitpose_base_coco")
    specs = {name: head.spec for name, head in read_heads(recipe).items()}
    plain = recipe.backbone.model_copy(update={"pretrained": False})
    rows = []
    with torch.device("meta"):
        for name, frozen in SWITCHES.items():
            rows.append([name, f"{freeze(build_model(plain, specs), frozen) / 1e6:.2f} M"])
        adapted = build_model(plain.model_copy(update={"lora": LoraConfig()}), specs)
        rows.append(
            [
                "all but adapters of rank 8 and heads",
                f"{freeze(adapted, FreezeConfig()) / 1e6:.2f} M",
            ]
        )
    print(text_table(["frozen", "trainable"], rows))


if __name__ == "__main__":
    main()
