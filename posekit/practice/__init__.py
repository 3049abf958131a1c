"""Practice data: people, animals and faces drawn from a seed, in five official formats."""

from posekit.practice.formats import generator
from posekit.practice.practice import PRACTICE_DATASETS, PracticeSizes, write_practice_data
from posekit.practice.scenes import people_scene

__all__ = [
    "PRACTICE_DATASETS",
    "PracticeSizes",
    "generator",
    "people_scene",
    "write_practice_data",
]
