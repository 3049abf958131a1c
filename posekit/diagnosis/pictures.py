"""The image files of a split: are they there, can they be read, and what do they look like."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from posekit.adapters.image_size import image_size
from posekit.data.images import read_image
from posekit.data.index import PoseIndex
from posekit.diagnosis.findings import Finding, image_examples
from posekit.errors import DatasetError

OK, MISSING, UNREADABLE, OTHER_SIZE, NOT_READ = range(5)
SIDE = 16
"""Side of the thumbnails in pixels."""

_HASH_SIDE = 32
_LOW = 8
_SMALLEST = 96
_CHUNK = 256

Progress = Callable[[int, int], None]
"""Called with images done and images in all."""


@dataclass(frozen=True)
class ImageFacts:
    """What was seen of M image files.

    Attributes:
        state: uint8 (M,): OK, MISSING, UNREADABLE, OTHER_SIZE, or NOT_READ (there, not opened).
        size: int32 (M, 2): (height, width) as stored or as declared, 0 where not known.
        digest: bytes 'S32' (M,): sha256 of the file's bytes; empty where not read.
        hash: uint64 (M,): perceptual hash; 0 where there is none.
        thumbnail: uint8 (M, SIDE, SIDE): grey picture.
        has_hash: bool (M,): False where not decoded, or where the picture is flat.
        problems: image row -> what is wrong with it.
    """

    state: np.ndarray
    size: np.ndarray
    digest: np.ndarray
    hash: np.ndarray
    thumbnail: np.ndarray
    has_hash: np.ndarray
    problems: dict[int, str]


def look_at_images(
    index: PoseIndex,
    *,
    decode: bool = True,
    threads: int = 4,
    progress: Progress | None = None,
) -> ImageFacts:
    """Look at every image file of a split.

    Cost: about 3 ms and one read of the file an image and core (JPEGs are decoded at a fraction of
    their size); without decoding at most 0.1 ms. Memory: 300 bytes an image.

    Args:
        index: the split.
        decode: open and decode the files; otherwise it is only looked whether they are there, and
            the header is read where the annotations declare no size.
        threads: threads that read side by side.
        progress: called now and then.
    """
    count = len(index.columns.image_path)
    facts = ImageFacts(
        state=np.full(count, NOT_READ, np.uint8),
        size=np.array(index.columns.image_size, np.int32),
        digest=np.zeros(count, "S32"),
        hash=np.zeros(count, np.uint64),
        thumbnail=np.zeros((count, SIDE, SIDE), np.uint8),
        has_hash=np.zeros(count, bool),
        problems={},
    )

    def look(image: int) -> None:
        file = index.image_file_at(image)
        if not file.is_file():
            _fails(facts, image, MISSING, "no such file")
        elif decode:
            _decode(facts, image, file)
        elif facts.size[image].min() <= 0:
            with contextlib.suppress(DatasetError):
                facts.size[image] = image_size(file)

    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, count, _CHUNK):
            stop = min(start + _CHUNK, count)
            for _ in pool.map(look, range(start, stop)):
                pass
            if progress:
                progress(stop, count)
    return facts


def perceptual_hash(grey: np.ndarray) -> tuple[int, np.ndarray, bool]:
    """Return a 64-bit hash that survives re-encoding and resizing, and a thumbnail to verify by.

    The signs, about their median, of the lowest 8 x 8 cosine coefficients (without the mean) of
    the picture at 32 x 32 pixels; copies of any size differ in a few bits.

    Args:
        grey: uint8 (h, w).

    Returns:
        the hash, the thumbnail uint8 (SIDE, SIDE), and whether the picture holds anything: a flat
        one has no hash.

    Source: the "pHash" of Zauner, Implementation and Benchmarking of Perceptual Image Hash
    Functions, 2010, with the coefficients 1 to 8 of either axis.
    """
    small = cv2.resize(grey, (_HASH_SIDE, _HASH_SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[1 : _LOW + 1, 1 : _LOW + 1]
    bits = (low > np.median(low)).reshape(-1)
    value = int.from_bytes(np.packbits(bits).tobytes(), "big")
    thumbnail = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return value, thumbnail, bool(thumbnail.std() >= 3)


def image_findings(index: PoseIndex, facts: ImageFacts) -> Iterator[Finding]:
    """Name the images that are missing, unreadable, or of another size than declared."""
    columns = index.columns
    kinds = (
        (MISSING, "images_missing", "are not there", "put them there, or leave their records out"),
        (UNREADABLE, "images_unreadable", "cannot be read as images", "download them again"),
        (
            OTHER_SIZE,
            "images_of_other_size",
            "have another size than the annotations declare, so points and picture do not fit",
            "put the images there that were annotated, or correct width and height",
        ),
    )
    for state, name, what, fix in kinds:
        images = np.flatnonzero(facts.state == state)
        if len(images):
            notes = [facts.problems.get(image, "") for image in images.tolist()]
            yield Finding(
                name,
                "error",
                f"{len(images)} of {len(facts.state)} images {what}",
                fix,
                len(images),
                image_examples(columns, images, notes),
            )


def _decode(facts: ImageFacts, image: int, file: Path) -> None:
    declared = (int(facts.size[image, 0]), int(facts.size[image, 1]))
    try:
        found = image_size(file)
        if min(declared) > 0 and declared not in (found, found[::-1]):
            _fails(facts, image, OTHER_SIZE, _sizes(found, declared))
            return
        reduce = 1
        while reduce < 8 and min(found) // (2 * reduce) >= _SMALLEST:
            reduce *= 2
        # which of the two ways a turned photograph was declared, read_image decides
        picture = read_image(file, declared, reduce=reduce)
    except DatasetError as error:
        is_size = "found" in error.problem and "expected the annotation" in error.problem
        _fails(facts, image, OTHER_SIZE if is_size else UNREADABLE, error.problem)
        return
    data = file.read_bytes()
    facts.state[image] = OK
    if min(declared) <= 0:
        facts.size[image] = found
    facts.digest[image] = hashlib.sha256(data).digest()
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    facts.hash[image], facts.thumbnail[image], facts.has_hash[image] = perceptual_hash(grey)


def _fails(facts: ImageFacts, image: int, state: int, problem: str) -> None:
    facts.state[image] = state
    facts.problems[image] = problem


def _sizes(found: tuple[int, int], declared: tuple[int, int]) -> str:
    return (
        f"found {found[1]} x {found[0]} pixels, declared {declared[1]} x {declared[0]} "
        "(width x height)"
    )
