"""A small student alone, and with what a larger teacher offers: output, knowledge token, both.

python benchmarks/distillation.py
"""

from __future__ import annotations

from practice_runs import MEASURE, SHORT, people_recipe, practice_folder, show, train_and_score

TEACHER = (*SHORT, "backbone.embed_dim=160", "backbone.depth=5", "backbone.num_heads=4")
STUDENT = (*SHORT, "backbone.embed_dim=64", "backbone.depth=3", "backbone.num_heads=2")
STEPS = 150
SEEDS = (0, 1)


def main() -> None:
    """Train the teacher, then each kind of student with two seeds, and print a table."""
    with practice_folder(300, 150) as folder:
        score, _ = train_and_score(people_recipe(folder, "teacher", TEACHER, 300))
        teacher = f"distillation.teacher={folder / 'runs' / 'teacher'}"
        token = f"distillation.token.file={folder / 'runs' / 'first' / 'token.pt'}"
        learn = ("distillation.token.steps=60", "distillation.output=0")
        train_and_score(people_recipe(folder, "first", [*STUDENT, teacher, *learn], 1))
        print(f"teacher: {score:.3f}; students of {STEPS} steps, seeds {SEEDS}\n")
        print(f"| student | {MEASURE} | each seed |\n| --- | --- | --- |")
        kinds = {
            "alone": [],
            "knowledge token": [teacher, token, "distillation.output=0"],
            "output": [teacher],
            "both": [teacher, token],
        }
        for kind, settings in kinds.items():
            scores = []
            for seed in SEEDS:
                name = f"{kind}-{seed}".replace(" ", "-")
                recipe = people_recipe(folder, name, [*STUDENT, *settings], STEPS, seed)
                scores.append(train_and_score(recipe)[0])
            show(kind, scores)


if __name__ == "__main__":
    main()
