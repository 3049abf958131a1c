"""Practice data: people, animals and faces drawn from a seed, in five official formats."""

from posekit.practice.animal import ANIMAL_KEYPOINTS, render_animal
from posekit.practice.background import encode_jpeg, finish, paint_background
from posekit.practice.canvas import Canvas
from posekit.practice.face import FACE_KEYPOINTS, render_face
from posekit.practice.figures import Figure, Label, Scene, label_figure
from posekit.practice.person import BODY_KEYPOINTS, render_person
from posekit.practice.practice import (
    PRACTICE_DATASETS,
    PRACTICE_VERSION,
    PracticeSizes,
    write_practice_data,
)
from posekit.practice.rng import generator
from posekit.practice.scenes import animal_scene, face_scene, people_scene

__all__ = [
    "ANIMAL_KEYPOINTS",
    "BODY_KEYPOINTS",
    "FACE_KEYPOINTS",
    "PRACTICE_DATASETS",
    "PRACTICE_VERSION",
    "Canvas",
    "Figure",
    "Label",
    "PracticeSizes",
    "Scene",
    "animal_scene",
    "encode_jpeg",
    "face_scene",
    "finish",
    "generator",
    "label_figure",
    "paint_background",
    "people_scene",
    "render_animal",
    "render_face",
    "render_person",
    "write_practice_data",
]
