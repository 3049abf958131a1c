"""Poses are drawn, shown, written as pictures and summed up in a notebook."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageShow
from test_poses import poses

from posekit.errors import DatasetError, PredictionError


@pytest.fixture
def two(tmp_path: Path):
    """Poses of two grey images that are there."""
    found = poses([0, 0, 1])
    names = []
    for name, size in zip(found.image_names, found.image_sizes, strict=True):
        names.append(str(tmp_path / name))
        cv2.imwrite(names[-1], np.full((*size, 3), 90, np.uint8))
    return replace(found, image_names=tuple(names))


def test_plot_draws_into_each_image_and_only_there(two):
    first, second = two.plot()
    assert first.dtype == np.uint8
    assert first.shape == (120, 160, 3)
    for picture, (_, part) in zip((first, second), two.by_image(), strict=True):
        drawn = np.abs(picture.astype(int) - 90).max(axis=2) > 30
        for x, y in part.keypoints.reshape(-1, 2).round().astype(int):
            if y < picture.shape[0]:
                assert drawn[y, x]
        assert 0.01 < drawn.mean() < 0.9


def test_plot_takes_arrays_and_pictures_instead_of_files():
    one = poses([0])
    one = replace(one, image_names=("image 0",), image_sizes=((120, 160),))
    grey = np.full((120, 160, 3), 90, np.uint8)
    picture = one.plot(grey)
    assert picture.shape == grey.shape
    assert (grey == 90).all()
    assert np.array_equal(one.plot([Image.fromarray(grey)]), picture)
    assert (one.plot(grey, threshold=2.0) == 90).mean() > 0.95


def test_plot_says_which_image_it_lacks_and_which_does_not_fit(two):
    with pytest.raises(PredictionError, match="found 1 images, expected one for each of the 2"):
        two.plot(np.zeros((120, 160, 3), np.uint8))
    with pytest.raises(PredictionError, match=r"'one\.jpg' is no file here; pass the image"):
        poses([0]).plot()
    with pytest.raises(PredictionError, match=r"found an image of 9 x 5 .* expected 160 x 120"):
        two.plot([np.zeros((5, 9, 3), np.uint8)] * 2)
    Path(two.image_names[0]).write_text("no picture")
    with pytest.raises(DatasetError, match=r"one\.jpg"):
        two.plot()


def test_show_is_inline_in_a_notebook(two, monkeypatch):
    shown: list[Image.Image] = []
    kernel = SimpleNamespace(kernel=object())
    display = SimpleNamespace(display=shown.append)
    module = SimpleNamespace(get_ipython=lambda: kernel, display=display)
    monkeypatch.setitem(sys.modules, "IPython", module)
    two.show()
    assert [picture.size for picture in shown] == [(160, 120), (90, 80)]


def test_show_opens_a_window_where_there_is_a_display_and_says_where_there_is_none(
    two, monkeypatch
):
    monkeypatch.setitem(sys.modules, "IPython", None)
    shown: list[Image.Image] = []
    monkeypatch.setattr(ImageShow, "show", lambda picture: not shown.append(picture))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(PredictionError, match=r"there is no display .*save\('poses\.jpg'\)"):
        two.show()
    assert not shown
    monkeypatch.setenv("DISPLAY", ":0")
    two.show()
    assert len(shown) == 2


def test_one_image_is_saved_as_one_file_and_several_as_a_folder(two, tmp_path: Path):
    folder = two.save(tmp_path / "out.jpg")
    assert folder == tmp_path / "out"
    assert sorted(file.name for file in folder.iterdir()) == ["one.jpg", "two.jpg"]
    (_, first), _ = two.by_image()
    file = first.save(tmp_path / "one.png")
    assert np.array_equal(cv2.imread(str(file))[..., ::-1], two.plot()[0])


def test_pictures_of_one_name_do_not_overwrite_each_other(two, tmp_path: Path):
    (tmp_path / "b").mkdir()
    other = tmp_path / "b" / "one.jpg"
    Path(two.image_names[1]).rename(other)
    folder = replace(two, image_names=(two.image_names[0], str(other))).save(tmp_path / "o.png")
    assert sorted(file.name for file in folder.iterdir()) == ["one-1.png", "one-2.png"]


def test_a_notebook_shows_an_escaped_table_and_the_first_image(two):
    html = two._repr_html_()
    assert html.count("<tr>") == 4
    assert 'src="data:image/jpeg;base64,' in html
    hostile = replace(two, image_names=("<script>alert(1)</script>", "b.jpg"))
    html = hostile._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "<img" not in html
    assert "and 3 more" in poses([0] * 8)._repr_html_()
    assert "0 poses" in poses([])._repr_html_()
