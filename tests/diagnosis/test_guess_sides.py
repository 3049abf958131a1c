"""Left and right out of names."""

import pytest

from posekit.diagnosis.sides import read_sides


@pytest.mark.parametrize(
    ("left", "right", "name"),
    [
        ("left_eye", "right_eye", "eye"),
        ("L_Eye", "R_Eye", "eye"),
        ("eye_l", "eye_r", "eye"),
        ("EarL", "EarR", "ear"),
        ("LEar", "REar", "ear"),
        ("leftear", "rightear", "ear"),
        ("Ear Left", "Ear Right", "ear"),
        ("front_L_paw", "front_R_paw", "front_paw"),
        ("hindPawLeft", "hindPawRight", "hind_paw"),
        ("Left Eye (outer)", "Right Eye (outer)", "eye_outer"),
        ("auge_links", "auge_rechts", "auge"),
        ("oreille gauche", "oreille droite", "oreille"),
        ("ojo_izquierdo", "ojo_derecho", "ojo"),
        ("occhio_sinistro", "occhio_destro", "occhio"),
        ("olho_esquerdo", "olho_direito", "olho"),
        ("lft-knee", "rgt-knee", "knee"),
    ],
)
def test_both_sides_are_found_in_any_spelling(left, right, name):
    sides = read_sides([right, "snout", left])
    assert sides.pairs == ((2, 0),)
    assert sides.names == (f"right_{name}", "snout", f"left_{name}")
    assert not sides.guessed


def test_a_letter_glued_to_a_word_counts_only_with_its_partner_and_is_told():
    sides = read_sides(["lsho", "rsho", "leg", "rump", "root"])
    assert sides.pairs == sides.guessed == ((0, 1),)
    assert sides.names[2:] == ("leg", "rump", "root")


def test_certain_readings_come_before_glued_letters():
    sides = read_sides(["left_ear", "right_ear", "rear", "lear_x"])
    assert sides.pairs == ((0, 1),)


def test_a_side_without_partner_is_told_and_keeps_its_name():
    sides = read_sides(["left_eye", "nose", "right_ear"])
    assert sides.pairs == ()
    assert sides.alone == (0, 2)
    assert sides.names == ("left_eye", "nose", "right_ear")


def test_names_become_unique_lower_snake():
    assert read_sides(["Nose", "nose", "NOSE", "nose_2"]).names[:1] == ("nose",)
    names = read_sides(["Nose", "nose", "NOSE", "nose_2", "0", "1", "左眼"]).names
    assert len(set(names)) == 7
    assert names[3:] == ("nose_2", "point_0", "point_1", "point_6")
