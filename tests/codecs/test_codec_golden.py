"""Every codec against the reference implementations' targets and decodings."""

import numpy as np
import pytest
import torch

from posekit.codecs import build_codec
from posekit.warp import inverse_crop_matrices, transform_points

pytestmark = pytest.mark.shared

SIZES = {"192x256": (256, 192), "256x256": (256, 256)}
SIMCC_SIGMA = {"192x256": [4.9, 5.66], "256x256": [5.66, 5.66]}
ENCODERS = {
    "msra": {"kind": "msra", "follows": "1.x"},
    "vitpose_msra": {"kind": "msra"},
    "msra_unbiased": {"kind": "msra_unbiased", "follows": "1.x"},
    "udp_gaussian": {"kind": "udp", "follows": "1.x"},
    "vitpose_udp": {"kind": "udp"},
    "udp_combined": {"kind": "udp_combined", "follows": "1.x"},
    "vitpose_udp_combined": {"kind": "udp_combined"},
}
# name -> codec, and which points can be compared
DECODERS_0X = {
    "none": ({"kind": "msra", "refine": "none"}, "decode_unique_peak"),
    "default": ({"kind": "msra"}, "decode_unique_peak"),
    "dark": ({"kind": "msra_unbiased"}, "msra_unbiased_well_conditioned"),
    "udp_dark": ({"kind": "udp"}, "vitpose_udp_dark_well_conditioned"),
}
DECODERS_1X = {
    "msra": "decode_unique_peak",
    "msra_unbiased": "msra_unbiased_well_conditioned",
    "udp_gaussian": "udp_gaussian_well_conditioned",
}


@pytest.fixture(scope="module", params=SIZES)
def golden(request, reference):
    file = reference / f"codecs/codecs_{request.param}.npz"
    return request.param, SIZES[request.param], dict(np.load(file))


def to_image(codec, points, golden):
    crops = golden["decode_center"], golden["decode_scale_px"]
    back = inverse_crop_matrices(*crops, 0.0, codec.input_size, codec.warp)
    return transform_points(points.numpy(), back[: len(points)])


def to_mmpose_input(codec, points):
    """1.x counts input pixels of UDP as (w, h) intervals although there are (w - 1, h - 1)."""
    size = np.array(codec.input_size[::-1], dtype=float)
    return points.numpy() * (size / (size - 1) if codec.warp == "udp" else 1.0)


def encode_all(config, size, golden):
    points = torch.from_numpy(golden["keypoints"])[None]
    weights = torch.from_numpy(golden["visible"])[None]
    targets, weights = build_codec(config, size).encode(points, weights)
    return targets[0].numpy(), weights[0].numpy()


def channel_stats(maps):
    maps = maps.astype(np.float64)
    y, x = np.mgrid[: maps.shape[1], : maps.shape[2]]
    columns = [
        maps.sum((1, 2)),
        maps.max((1, 2)),
        maps.reshape(len(maps), -1).argmax(1),
        (x * maps).sum((1, 2)),
        (y * maps).sum((1, 2)),
        (maps**2).sum((1, 2)),
    ]
    return np.stack(columns, axis=1)


def vector_stats(vectors):
    stats = channel_stats(vectors[:, None, :])
    return stats[:, [0, 1, 2, 3, 5]]


@pytest.mark.parametrize("name", ENCODERS)
def test_targets_and_weights_are_the_references(golden, name):
    _, size, numbers = golden
    targets, weights = encode_all(ENCODERS[name], size, numbers)
    np.testing.assert_array_equal(weights, numbers[f"{name}_weights"])
    np.testing.assert_allclose(
        channel_stats(targets), numbers[f"{name}_stats"], rtol=1e-4, atol=1e-4
    )
    starts = np.concatenate([[0], np.cumsum(numbers["num_keypoints"])])
    channels = len(targets) // starts[-1]
    for instance in (0, 2):
        full = numbers.get(f"{name}_full_{instance}")
        if full is not None:
            start = starts[instance] * channels
            np.testing.assert_allclose(targets[start : start + len(full)], full, atol=5e-6)


def test_simcc_targets_and_weights_are_the_references(golden):
    name, size, numbers = golden
    codec = build_codec({"kind": "simcc", "sigma": SIMCC_SIGMA[name]}, size)
    points = torch.from_numpy(numbers["keypoints"])[None]
    targets, weights = codec.encode(points, torch.from_numpy(numbers["visible"])[None])
    np.testing.assert_array_equal(weights[0].numpy(), numbers["simcc_gaussian_weights"])
    x, y = (part[0].numpy() for part in codec.distributions(targets))
    stats = np.concatenate([vector_stats(x), vector_stats(y)], axis=1)
    np.testing.assert_allclose(stats, numbers["simcc_gaussian_stats"], rtol=1e-4, atol=1e-4)
    starts = np.concatenate([[0], np.cumsum(numbers["num_keypoints"])])
    for instance in (0, 2):
        rows = slice(starts[instance], starts[instance + 1])
        for axis, vectors in (("x", x), ("y", y)):
            full = numbers[f"simcc_gaussian_full_{axis}_{instance}"]
            np.testing.assert_allclose(vectors[rows], full, atol=5e-6)


@pytest.mark.parametrize("name", DECODERS_0X)
def test_points_in_the_image_are_vitposes(golden, name):
    _, size, numbers = golden
    config, comparable = DECODERS_0X[name]
    codec = build_codec(config, size)
    points, scores = codec.decode(torch.from_numpy(numbers["decode_input"]).float())
    error = np.abs(to_image(codec, points, numbers) - numbers[f"vitpose_{name}_image_xy"]).max(-1)
    tolerance = 0.1 if "dark" in name else 1e-3
    assert error[numbers[comparable]].max() < tolerance
    expected = numbers[f"vitpose_{name}_score"].reshape(scores.shape)
    np.testing.assert_array_equal(scores.numpy(), expected)


@pytest.mark.parametrize("name", DECODERS_1X)
def test_points_are_mmposes(golden, name):
    _, size, numbers = golden
    codec = build_codec(ENCODERS[name], size)
    points, scores = codec.decode(torch.from_numpy(numbers["decode_input"]).float())
    comparable = numbers[DECODERS_1X[name]]
    error = np.abs(to_mmpose_input(codec, points) - numbers[f"{name}_decoded_xy"]).max(-1)
    assert error[comparable].max() < (1e-3 if name == "msra" else 0.02)
    image = np.abs(to_image(codec, points, numbers) - numbers[f"{name}_decoded_image_xy"]).max(-1)
    assert image[comparable].max() < (1e-3 if name == "msra" else 0.1)
    np.testing.assert_array_equal(scores.numpy(), numbers[f"{name}_decoded_score"])


@pytest.mark.parametrize("name", DECODERS_1X)
def test_whole_body_points_are_mmposes(reference, name):
    numbers = np.load(reference / "codecs/codecs_192x256.npz")
    codec = build_codec(ENCODERS[name], (256, 192))
    points, scores = codec.decode(torch.from_numpy(numbers["decode_input_133"]).float()[None])
    error = np.abs(to_mmpose_input(codec, points[0]) - numbers[f"{name}_decoded133_xy"])
    assert error.max() < (1e-3 if name == "msra" else 0.02)
    np.testing.assert_array_equal(scores[0].numpy(), numbers[f"{name}_decoded133_score"])


def test_combined_points_are_the_references(golden):
    _, size, numbers = golden
    maps = torch.from_numpy(numbers["combined_input"]).float()[None]
    codec = build_codec(ENCODERS["udp_combined"], size)
    points, scores = codec.decode(maps)
    np.testing.assert_allclose(
        to_mmpose_input(codec, points)[0], numbers["udp_combined_decoded_xy"], atol=1e-3
    )
    np.testing.assert_allclose(scores[0], numbers["udp_combined_decoded_score"], atol=1e-6)

    codec = build_codec(ENCODERS["vitpose_udp_combined"], size)
    points, scores = codec.decode(maps)
    np.testing.assert_allclose(
        to_image(codec, points, numbers)[0], numbers["vitpose_combined_image_xy"], atol=1e-3
    )
    expected = numbers["vitpose_combined_score"].ravel()
    np.testing.assert_allclose(scores[0], expected, atol=1e-6)


def test_simcc_points_are_mmposes(golden):
    name, size, numbers = golden
    codec = build_codec({"kind": "simcc", "sigma": SIMCC_SIGMA[name]}, size)
    both = np.concatenate([numbers["simcc_input_x"], numbers["simcc_input_y"]], axis=-1)
    points, scores = codec.decode(torch.from_numpy(both).float()[:, :, None, :])
    np.testing.assert_allclose(points[0], numbers["simcc_decoded_xy"], atol=1e-3)
    np.testing.assert_allclose(scores[0], numbers["simcc_decoded_score"], atol=1e-6)


@pytest.mark.parametrize(("kind", "shift"), [("msra", 1), ("udp", 0)])
def test_maps_of_the_mirrored_crop_turn_back_exactly(reference, kind, shift):
    numbers = np.load(reference / "geometry/flip.npz")
    codec = build_codec({"kind": kind}, (64, 48))
    maps = torch.from_numpy(numbers["heatmaps"])
    mirrored = torch.from_numpy(numbers["heatmaps_of_flipped_image"])
    back = codec.flip_back(mirrored, numbers["flip_indices"])
    np.testing.assert_array_equal(back, numbers[f"flipped_back_shift{shift}"])
    averaged = codec.average_flipped(maps, mirrored, numbers["flip_indices"])
    np.testing.assert_array_equal(averaged, numbers[f"averaged_shift{shift}"])


def test_combined_maps_of_the_mirrored_crop_turn_back_exactly(reference):
    numbers = np.load(reference / "geometry/flip.npz")
    mirrored = torch.from_numpy(numbers["combined_heatmaps_of_flipped_image"])
    codec = build_codec({"kind": "udp_combined"}, (64, 48))
    back = codec.flip_back(mirrored, numbers["flip_indices"])
    np.testing.assert_array_equal(back, numbers["combined_flipped_back"])
