"""Peaks, windows and local blurs against numpy and OpenCV on whole maps."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.codecs.peaks import blurred_stencil, find_peaks, gaussian_kernel, mass_around, windows
from posekit.codecs.refine import blur_maps

sizes = st.sampled_from([(2, 2), (3, 7), (16, 12), (64, 48), (1, 384), (13, 40)])
kernels = st.sampled_from([1, 3, 5, 7, 9, 11, 23])


def random_maps(size, seed, count=4):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, *size))).float()


def opencv_blur(maps, kernel_size, reflect):
    border = cv2.BORDER_REFLECT_101 if reflect else cv2.BORDER_CONSTANT
    pad = kernel_size // 2
    blurred = []
    for one in maps.numpy():
        around = cv2.copyMakeBorder(one, pad, pad, pad, pad, border, value=0)
        whole = cv2.GaussianBlur(around, (kernel_size, kernel_size), 0)
        blurred.append(whole[pad : pad + one.shape[0], pad : pad + one.shape[1]])
    return np.stack(blurred)


@given(sizes, st.integers(0, 10**6), st.booleans())
@settings(deadline=None)
def test_the_peak_is_numpys_first_maximum(size, seed, ties):
    maps = random_maps(size, seed)
    if ties:
        maps = maps.round()
    x, y, value = find_peaks(maps)
    expected = maps.flatten(1).numpy().argmax(1)
    np.testing.assert_array_equal(y * size[1] + x, expected)
    np.testing.assert_array_equal(value, maps.flatten(1).numpy().max(1))


@given(sizes, kernels, st.integers(0, 2), st.booleans(), st.integers(0, 10**6))
@settings(deadline=None)
def test_the_blurred_neighbourhood_is_that_of_the_blurred_map(size, kernel, reach, reflect, seed):
    maps = random_maps(size, seed)
    rng = np.random.default_rng(seed)
    y = torch.from_numpy(rng.integers(0, size[0], len(maps)))
    x = torch.from_numpy(rng.integers(0, size[1], len(maps)))
    found = blurred_stencil(maps, x, y, reach, gaussian_kernel(kernel), reflect=reflect)
    whole = opencv_blur(maps, kernel, reflect)
    for i in range(len(maps)):
        rows = np.clip(np.arange(-reach, reach + 1) + int(y[i]), 0, size[0] - 1)
        columns = np.clip(np.arange(-reach, reach + 1) + int(x[i]), 0, size[1] - 1)
        np.testing.assert_allclose(found[i], whole[i][np.ix_(rows, columns)], atol=2e-6)


@pytest.mark.parametrize("reflect", [True, False])
@pytest.mark.parametrize("kernel", [3, 11, 23])
def test_whole_maps_are_blurred_as_opencv_does(kernel, reflect):
    maps = random_maps((64, 48), 0)
    found = blur_maps(maps, gaussian_kernel(kernel), reflect)
    np.testing.assert_allclose(found, opencv_blur(maps, kernel, reflect), atol=2e-6)


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9, 11, 17, 23])
def test_the_kernel_is_opencvs(size):
    expected = cv2.getGaussianKernel(size, 0)[:, 0]
    np.testing.assert_allclose(gaussian_kernel(size), expected, atol=1e-7)


def test_windows_are_cut_from_their_own_map():
    maps = torch.arange(2 * 6 * 5).reshape(2, 6, 5).float()
    cut = windows(maps, torch.tensor([0, 2]), torch.tensor([3, 1]), 3, 2)
    np.testing.assert_array_equal(cut[0], maps[0, 3:6, 0:2])
    np.testing.assert_array_equal(cut[1], maps[1, 1:4, 2:4])


@given(st.integers(0, 15), st.integers(0, 11), st.integers(0, 9), st.integers(0, 9))
@settings(deadline=None)
def test_the_mass_around_a_pixel_is_the_sum_of_its_neighbours(y, x, reach_x, reach_y):
    maps = random_maps((16, 12), 3, count=1)
    found = mass_around(maps, torch.tensor([x]), torch.tensor([y]), reach_x, reach_y)
    rows = slice(max(y - reach_y, 0), y + reach_y + 1)
    columns = slice(max(x - reach_x, 0), x + reach_x + 1)
    np.testing.assert_allclose(found[0], maps[0, rows, columns].sum(), atol=1e-4)


def test_a_map_with_nan_has_a_nan_peak():
    maps = random_maps((64, 48), 0, count=2)
    maps[1, 5, 5] = float("nan")
    value = find_peaks(maps)[2]
    assert not torch.isnan(value[0])
    assert torch.isnan(value[1])
