"""Load labelled grey images: idx and npz files, folders by class, the digits of scikit-learn, MNIST by download."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eventsnn.io import _npz

Split = Literal["train", "test"]
Size = tuple[int, int]

MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
DIGITS_SEED = 0
DIGITS_TEST = 0.2

_SPLITS: tuple[Split, ...] = ("train", "test")
_IDX_NAME = re.compile(r"(?:.*[-_])?(train|t10k|test)[-_.](images|labels)[-_.]idx[13][-_.]ubyte(?:\.gz)?")
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_MAX_INFLATION = 1100  # deflate's limit is 1032


@dataclass(frozen=True, eq=False)
class Images:
    """Grey images with their classes.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n_images, height, width)
        Intensities, 0 (black) to 255.
    labels : ndarray of int64, shape (n_images,)
        Class of each image, an index into ``names``.
    names : tuple of str
        Names of the classes.
    source : str
        Where the images came from, for people to read.
    groups : ndarray of int64, shape (n_images,), optional
        Which images belong together: those of one class with one number, as views of one object do.

    Raises
    ------
    ValueError
        If an array is not as above, or a label is no index into ``names``.
    """

    pixels: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    source: str
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        expected = [("pixels", np.uint8, 3), ("labels", np.int64, 1)]
        for name, dtype, axes in expected + [("groups", np.int64, 1)] * (self.groups is not None):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != axes:
                found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else f"{array!r:.60}"
                raise ValueError(f"{name} expects an array of {np.dtype(dtype)} with {axes} axes, got {found}")
        if len(self.pixels) != len(self.labels):
            raise ValueError(f"expected one label per image, got {len(self.pixels)} images, {len(self.labels)} labels")
        if self.groups is not None and len(self.groups) != len(self.labels):
            raise ValueError(f"expected one group per image, got {len(self.labels)} images, {len(self.groups)} groups")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.names):
            found = f"{self.labels.min()} to {self.labels.max()}"
            raise ValueError(f"labels expects 0 to {len(self.names) - 1}, one for each name, got {found}")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> Images:
        """Return the images at a slice, a list of indices or a boolean mask."""
        groups = None if self.groups is None else self.groups[index]
        return Images(self.pixels[index], self.labels[index], self.names, self.source, groups)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the shape (three int64), the pixels and the labels (int64), little-endian, as hexadecimal."""
        digest = hashlib.sha256(np.array(self.pixels.shape, "<i8").tobytes())
        digest.update(np.ascontiguousarray(self.pixels).data)
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


def load_images(source: str | Path, split: Split | None = None, *, size: Size | None = None) -> Images:
    """Load labelled grey images.

    Parameters
    ----------
    source : str or Path
        ``"digits"``, the 1,797 images of 8x8 pixels that come with scikit-learn, with values 0 to 16 scaled to 0
        to 255; or a folder of idx files named as MNIST's (``train-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte``,
        ..., with ``.gz`` or not); or an ``.npz`` file with ``images`` (uint8), ``labels`` (or ``category``, ``y``) and
        perhaps ``groups`` (or ``group``, ``object``) and the classes' names (``category_names`` beside ``category``),
        or with ``x_train``, ``y_train``, ``x_test`` and ``y_test``; or a folder with one folder of images per class
        (labels number the sorted names), or with ``train`` and ``test`` folders of such folders. Files that are not
        images by their suffix are left out; colour becomes grey by luma (ITU-R 601).
    split : {"train", "test"}, optional
        Default: everything, training part first. The digits have no part of their own: of each class, 20 % drawn
        at random (``RandomState(0)``, always the same) are the test part. Folders without parts, and ``.npz`` files
        with ``images``, have neither.
    size : tuple of int, optional
        Height and width to rescale each image to (bilinear, averaging where it shrinks).

    Returns
    -------
    Images

    Raises
    ------
    FileNotFoundError
        If the folder or file is missing.
    ValueError
        If there are no images, no such part, a file is damaged, or sizes differ and ``size`` is not given; the
        message names the file.
    """
    if split not in (None, *_SPLITS):
        raise ValueError(f"split expects 'train', 'test' or None, got {split!r}")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"size expects (height, width) of at least 1, got {size!r}")
    if source == "digits":
        return _rescaled(_digits(split), size)
    folder = Path(source)
    if _npz.is_npz(folder):
        return _rescaled(_npz_images(folder, split), size)
    if not folder.is_dir():
        expected = "a folder of idx files or of images by class, an .npz file of images, or 'digits'"
        raise FileNotFoundError(f"{folder}: expected {expected}")
    if files := _idx_files(folder):
        return _rescaled(_idx_images(folder, files, split), size)
    return _class_images(folder, split, size)


def read_idx(path: str | Path) -> np.ndarray:
    """Read an array from an idx file, the format of MNIST, compressed by gzip or not.

    Returns
    -------
    ndarray
        Of the file's type and shape, in native byte order.

    Raises
    ------
    ValueError
        If the file is not idx, is damaged, or is shorter or longer than its header says; the message names it.
    """
    path = Path(path)
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as stream:
            return _parse_idx(stream, path.stat().st_size * (_MAX_INFLATION if packed else 1))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip file: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def fetch_mnist(folder: str | Path | None = None, *, mirrors: Sequence[str] = MNIST_MIRRORS) -> Path:
    """Download the four MNIST files, each verified by its SHA-256; files already there are kept.

    Parameters
    ----------
    folder : str or Path, optional
        Where to keep them. Default: the user's cache folder.
    mirrors : sequence of str, optional
        Addresses of folders that hold the files, tried in this order.

    Returns
    -------
    Path
        The folder, ready for :func:`load_images`.

    Raises
    ------
    OSError
        If no mirror gave a file with the right hash; the message says why for each.
    """
    import pooch

    target = Path(folder) if folder is not None else Path(pooch.os_cache("eventsnn")) / "mnist"
    for name, sha256 in MNIST_SHA256.items():
        _fetch(name, sha256, target, mirrors)
    return target


def _fetch(name: str, sha256: str, folder: Path, mirrors: Sequence[str]) -> None:
    import pooch

    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}"
        try:
            pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=folder)
            return
        # A wrong hash is a ValueError, what the network says an OSError.
        except (OSError, ValueError) as error:
            failures.append(f"{url}: {error}")
    raise OSError(f"could not download {name} into {folder}:\n" + "\n".join(failures))


def _parse_idx(stream: Any, limit: int) -> np.ndarray:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or magic[3] == 0:
        raise ValueError(f"expected an idx file (two zero bytes, type, number of axes), found {magic!r}")
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise ValueError(f"expected the sizes of {magic[3]} axes, found {len(header)} bytes")
    shape, dtype = struct.unpack(f">{magic[3]}I", header), np.dtype(_IDX_TYPES[magic[2]])
    wanted = int(np.prod(shape, dtype=object)) * dtype.itemsize
    # Before reading, so that a damaged header cannot ask for all the memory.
    data = stream.read(wanted + 1) if wanted <= limit else b""
    if len(data) != wanted:
        found = "more" if len(data) > wanted else "fewer"
        raise ValueError(f"expected {wanted} bytes of data for shape {shape}, found {found}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _digits(split: Split | None) -> Images:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    images = Images(pixels, bunch.target.astype(np.int64), tuple("0123456789"), _described("digits", split))
    if split is None:
        return images
    # RandomState, because NumPy promises that its stream never changes.
    random, test = np.random.RandomState(DIGITS_SEED), np.zeros(len(images), bool)
    for label in range(10):
        members = random.permutation(np.flatnonzero(images.labels == label))
        test[members[: round(DIGITS_TEST * len(members))]] = True
    return images[test if split == "test" else ~test]


def _idx_files(folder: Path) -> dict[tuple[str, str], Path]:
    """Find idx files by their names, keyed by part and by what they hold."""
    found: dict[tuple[str, str], Path] = {}
    # A file sorts before its compressed copy, and is preferred to it.
    for path in sorted(folder.iterdir()):
        if match := _IDX_NAME.fullmatch(path.name):
            key = ("train" if match[1] == "train" else "test", match[2])
            first = found.setdefault(key, path)
            if path.name not in (first.name, first.name + ".gz"):
                raise ValueError(f"{folder}: both {first.name} and {path.name} could be the {' '.join(key)}")
    return found


def _idx_images(folder: Path, files: dict[tuple[str, str], Path], split: Split | None) -> Images:
    wanted = _SPLITS if split is None else (split,)
    present = {part for part, _ in files}
    parts = [_idx_part(folder, files, part) for part in wanted if part in present]
    if not parts:
        raise ValueError(f"{folder}: expected idx files of the {split} part, found only {sorted(present)}")
    pixels = [p for p, _ in parts]
    if len({p.shape[1:] for p in pixels}) > 1:
        raise ValueError(f"{folder}: images of the parts differ in size: {[p.shape[1:] for p in pixels]}")
    labels = np.concatenate([values for _, values in parts])
    names = tuple(str(i) for i in range(int(labels.max(initial=-1)) + 1))
    return Images(np.concatenate(pixels), labels, names, _described(folder.resolve().name, split))


def _idx_part(folder: Path, files: dict[tuple[str, str], Path], part: str) -> tuple[np.ndarray, np.ndarray]:
    for kind in ("images", "labels"):
        if (part, kind) not in files:
            raise ValueError(f"{folder}: expected idx files of {part} images and labels, found no {kind}")
    pixels, labels = read_idx(files[part, "images"]), read_idx(files[part, "labels"])
    for array, kind, axes in ((pixels, "images", 3), (labels, "labels", 1)):
        if array.dtype != np.uint8 or array.ndim != axes:
            raise ValueError(f"{files[part, kind]}: expected uint8 of {axes} axes, found {array.dtype} {array.shape}")
    if len(pixels) != len(labels):
        raise ValueError(f"{folder}: the {part} part has {len(pixels)} images, but {len(labels)} labels")
    return pixels, labels.astype(np.int64)


def is_npz(source: str | Path) -> bool:
    """Tell whether a source is an ``.npz`` file of images."""
    return _npz.is_npz(source)


def has_parts(path: str | Path) -> bool:
    """Tell whether an ``.npz`` file of images has a training or a test part."""
    return bool(_npz.parts(Path(path)))


def _npz_images(path: Path, split: Split | None) -> Images:
    present = _npz.parts(path)
    if split is not None and split not in present:
        raise ValueError(f"{path}: expected the arrays x_{split} and y_{split} of the {split} part, found none")
    found = [_npz.read_images(path, part) for part in ((split,) if split else present or (None,))]
    if len({part.pixels.shape[1:] for part in found}) > 1:
        raise ValueError(f"{path}: images of the parts differ in size: {[part.pixels.shape[1:] for part in found]}")
    pixels, labels = (np.concatenate(columns) for columns in ([p.pixels for p in found], [p.labels for p in found]))
    names = found[0].names or tuple(str(i) for i in range(int(labels.max(initial=-1)) + 1))
    try:
        return Images(pixels, labels, names, _described(path.name, split), found[0].groups)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _class_images(folder: Path, split: Split | None, size: Size | None) -> Images:
    roots = {"": folder}
    if inside := {path.name: path for path in _folders(folder)}:
        # "train" can be a class too, beside others.
        roots = inside if set(inside) <= set(_SPLITS) else roots
    if split is not None and split not in roots:
        raise ValueError(f"{folder}: expected a folder {split!r} of folders by class, found {sorted(inside)}")
    # Of all parts, so that a label means the same in each.
    names = sorted({path.name for root in roots.values() for path in _folders(root)})
    parts = [roots[part] for part in (_SPLITS if split is None else (split,)) if part in roots] or [folder]
    files = [(path, names.index(f.name)) for root in parts for f in _folders(root) for path in _image_files(f)]
    if not files:
        other = next((path.name for root in parts for f in _folders(root) for path in sorted(f.iterdir())), None)
        seen = "none" if other is None else f"none, but {other!r}"
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"{folder}: expected folders of images ({known}), one per class, found {seen}")
    pixels = _stacked([path for path, _ in files], size)
    return Images(
        pixels,
        np.array([label for _, label in files], np.int64),
        tuple(names),
        _described(folder.resolve().name, split),
    )


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _image_files(folder: Path) -> list[Path]:
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in shown if path.suffix.lower() in IMAGE_SUFFIXES)


def _stacked(paths: list[Path], size: Size | None) -> np.ndarray:
    images = [_read_image(path, size) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise ValueError(
                f"images differ in size (height, width): {paths[0]} has {images[0].shape}, {path} has {image.shape}; "
                "rescale them: size=(height, width), on the command line --size HxW"
            )
    return np.stack(images)


def _read_image(path: Path, size: Size | None) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":  # Pillow would clip these to 255, not scale them
                raise ValueError(f"expected 8 bits per channel, found mode {image.mode!r}")
            return _resized(image.convert("L"), size)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image: {error}") from error


def _rescaled(images: Images, size: Size | None) -> Images:
    if size is None or images.pixels.shape[1:] == tuple(size):
        return images
    from PIL import Image

    pixels = np.empty((len(images), *size), np.uint8)
    for i, image in enumerate(images.pixels):
        pixels[i] = _resized(Image.fromarray(image), size)
    return dataclasses.replace(images, pixels=pixels)


def _resized(image: Any, size: Size | None) -> np.ndarray:
    from PIL import Image

    if size is not None:
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _described(name: str, split: Split | None) -> str:
    return name if split is None else f"{name} ({split})"
