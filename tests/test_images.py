"""Image sources: idx files, folders by class, digits, download by hash."""

import gzip
import hashlib
import http.server
import struct
import threading

import numpy as np
import pytest
from PIL import Image

from eventsnn.io import Images, fetch_mnist, images, load_images, read_idx

DIGITS_TEST_SHA256 = "482be73e6ea6c4709c798d572e98e0290a8ca7b9a5569235ea95c59ed4f470ff"
CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array):
    code = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def pixels(n, shape=(4, 5), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


@pytest.fixture
def idx_folder(tmp_path):
    """Three training and two test images, some files compressed, as MNIST names them."""
    train, test = pixels(3), pixels(2, seed=1)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(train)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([1, 0, 1], np.uint8)))
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(idx_bytes(test))
    (tmp_path / "t10k-labels.idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.array([0, 2], np.uint8))))
    (tmp_path / "README.md").write_text("not an idx file")
    return tmp_path


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def class_folder(tmp_path):
    """Two cats and a dog in lossless files, with things that are no images beside them."""
    save(tmp_path / "dog" / "0.png", pixels(1)[0])
    save(tmp_path / "cat" / "2.BMP", pixels(1, seed=2)[0])
    save(tmp_path / "cat" / "1.png", pixels(1, seed=1)[0])
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "split.csv").write_text("no folder")
    return tmp_path


# idx


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_read_idx(tmp_path, dtype, pack):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype) - np.array(100 if dtype != "u1" else 0, dtype)
    path = tmp_path / "array"
    path.write_bytes(pack(idx_bytes(array)))
    found = read_idx(path)
    assert found.dtype == array.dtype
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)
    found[:] = 0  # writeable


GOOD = idx_bytes(pixels(2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an idx file .* found b''"),
        (b"\x89PNG\r\n", "expected an idx file"),
        (b"\0\0\x07\x01" + GOOD[4:], "expected an idx file"),
        (b"\0\0\x08\x00", "expected an idx file"),
        (GOOD[:10], "expected the sizes of 3 axes, found 6 bytes"),
        (GOOD[:-1], r"expected 40 bytes of data for shape \(2, 4, 5\), found fewer"),
        (GOOD + b"\0", "expected 40 bytes .* found more"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + GOOD[16:], "expected 79228162458924105385300197375 bytes .* found fewer"),
        (gzip.compress(GOOD, mtime=0)[:-9], "damaged gzip file"),
        (gzip.compress(GOOD, mtime=0)[:30] + b"\xff" * 10 + gzip.compress(GOOD, mtime=0)[40:], "damaged gzip file"),
        (gzip.compress(GOOD[:-1], mtime=0), "found fewer"),
        (gzip.compress(GOOD + b"\0", mtime=0), "found more"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path, content, message):
    path = tmp_path / "some-idx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(str(path))


def test_idx_folder(idx_folder):
    train, test = load_images(idx_folder, "train"), load_images(str(idx_folder), "test")
    np.testing.assert_array_equal(train.pixels, pixels(3))
    np.testing.assert_array_equal(test.pixels, pixels(2, seed=1))
    assert (train.labels.tolist(), test.labels.tolist()) == ([1, 0, 1], [0, 2])
    assert (train.names, test.names) == (("0", "1"), ("0", "1", "2"))
    assert train.source == f"{idx_folder.name} (train)"
    both = load_images(idx_folder)
    np.testing.assert_array_equal(both.pixels, np.concatenate([train.pixels, test.pixels]))
    assert both.labels.tolist() == [1, 0, 1, 0, 2]


def test_idx_folder_prefers_the_plain_file(idx_folder):
    (idx_folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(pixels(3, seed=5)))
    np.testing.assert_array_equal(load_images(idx_folder, "train").pixels, pixels(3, seed=5))


def test_idx_folder_that_does_not_fit(idx_folder):
    labels = idx_folder / "train-labels-idx1-ubyte"
    for array, message in (
        (np.zeros(4, np.uint8), "the train part has 3 images, but 4 labels"),
        (np.zeros(3, np.int32), r"labels-idx1-ubyte: expected uint8 of 1 axes, found int32 \(3,\)"),
        (np.zeros((3, 1), np.uint8), r"expected uint8 of 1 axes, found uint8 \(3, 1\)"),
    ):
        labels.write_bytes(idx_bytes(array))
        with pytest.raises(ValueError, match=message):
            load_images(idx_folder)
    labels.unlink()
    with pytest.raises(ValueError, match="expected idx files of train images and labels, found no labels"):
        load_images(idx_folder, "train")
    (idx_folder / "other-t10k-images-idx3-ubyte").write_bytes(GOOD)
    with pytest.raises(ValueError, match=r"both other-t10k.* and t10k.* could be the test images"):
        load_images(idx_folder)


def test_a_missing_part_is_named(idx_folder):
    for path in idx_folder.glob("t10k*"):
        path.unlink()
    assert len(load_images(idx_folder)) == 3
    with pytest.raises(ValueError, match=r"expected idx files of the test part, found only \['train'\]"):
        load_images(idx_folder, "test")


# Folders by class


def test_class_folder(class_folder):
    found = load_images(class_folder)
    assert found.names == ("cat", "dog")
    assert found.labels.tolist() == [0, 0, 1]
    assert found.labels.dtype == np.int64
    expected = np.concatenate([pixels(1, seed=1), pixels(1, seed=2), pixels(1)])
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.source == class_folder.name


def test_colour_becomes_grey_by_luma(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    save(tmp_path / "a" / "colour.png", colours)
    assert load_images(tmp_path).pixels.tolist() == [[[76, 150, 29, 9]]]


def test_different_sizes(class_folder):
    save(class_folder / "dog" / "1.png", pixels(1, (6, 3))[0])
    message = r"cat.1\.png has \(4, 5\), .*dog.1\.png has \(6, 3\); rescale them: size="
    with pytest.raises(ValueError, match=message):
        load_images(class_folder)
    found = load_images(class_folder, size=(4, 5))
    assert found.pixels.shape == (4, 4, 5)
    np.testing.assert_array_equal(found.pixels[2], pixels(1)[0])  # of that size already


def test_folders_by_part(tmp_path):
    for seed, name in enumerate(("train/b/0.png", "train/c/0.png", "test/c/0.png", "test/a/0.png")):
        save(tmp_path / name, pixels(1, seed=seed)[0])
    train, test, both = (load_images(tmp_path, split) for split in ("train", "test", None))
    assert train.names == test.names == both.names == ("a", "b", "c")  # labels mean the same in every part
    assert (train.labels.tolist(), test.labels.tolist(), both.labels.tolist()) == ([1, 2], [0, 2], [1, 2, 0, 2])
    np.testing.assert_array_equal(both.pixels, np.concatenate([train.pixels, test.pixels]))


def test_train_may_be_a_class(class_folder):
    save(class_folder / "train" / "0.png", pixels(1)[0])
    assert load_images(class_folder).names == ("cat", "dog", "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"not a picture", "3.png: not a readable image"), (b"", "3.png: not a readable image")],
)
def test_an_unreadable_image_is_named(class_folder, content, message):
    (class_folder / "dog" / "3.png").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_images(class_folder)


def test_a_truncated_image_is_named(class_folder):
    path = class_folder / "dog" / "0.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"0\.png: not a readable image"):
        load_images(class_folder)


def test_deep_images_are_refused_not_clipped(class_folder):
    save(class_folder / "dog" / "deep.png", pixels(1)[0].astype(np.uint16) * 257)
    with pytest.raises(ValueError, match=r"deep\.png: .*expected 8 bits per channel, found mode 'I;16"):
        load_images(class_folder)


def test_wrong_arguments(class_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="missing: expected a folder"):
        load_images(tmp_path / "missing")
    with pytest.raises(ValueError, match="split expects 'train', 'test' or None, got 'val'"):
        load_images("digits", "val")
    with pytest.raises(ValueError, match=r"expected a folder 'test' of folders by class, found \['cat', 'dog'\]"):
        load_images(class_folder, "test")
    for size in ((0, 3), (3,)):
        with pytest.raises(ValueError, match="size expects"):
            load_images("digits", size=size)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected folders of images \(.bmp, .*\), one per class, found none$"):
        load_images(tmp_path / "empty")


# The value


def test_sha256_is_of_the_content(class_folder):
    found = load_images(class_folder)
    packed = struct.pack("<3q", 3, 4, 5) + found.pixels.tobytes() + struct.pack("<3q", 0, 0, 1)
    assert found.sha256 == hashlib.sha256(packed).hexdigest()
    assert found[::-1].sha256 != found.sha256
    assert found[np.array([True, True, True])].sha256 == found.sha256


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pixels": np.zeros((2, 4, 5))}, "pixels expects an array of uint8 with 3 axes, got float64"),
        ({"pixels": pixels(2)[0]}, r"pixels expects .* got uint8 of shape \(4, 5\)"),
        ({"labels": [0, 1]}, r"labels expects an array of int64 with 1 axes, got \[0, 1\]"),
        ({"labels": np.array([0])}, "2 images, 1 labels"),
        ({"labels": np.array([0, 2])}, "labels expects 0 to 1, one for each name, got 0 to 2"),
        ({"labels": np.array([-1, 0])}, "got -1 to 0"),
    ],
)
def test_images_checks_its_fields(fields, message):
    good = {"pixels": pixels(2), "labels": np.array([0, 1]), "names": ("a", "b"), "source": "here"}
    assert len(Images(**good)) == 2
    with pytest.raises(ValueError, match=message):
        Images(**(good | fields))


# Digits


def test_digits():
    everything = load_images("digits")
    assert everything.pixels.shape == (1797, 8, 8)
    assert (everything.pixels.min(), everything.pixels.max()) == (0, 255)
    assert everything.pixels[0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # 0 0 5 13 9 1 0 0, of 16
    assert everything.names == tuple("0123456789")


def test_the_digits_are_split_by_class_and_always_the_same():
    train, test, everything = (load_images("digits", split) for split in ("train", "test", None))
    counts = [np.bincount(part.labels) for part in (train, test, everything)]
    np.testing.assert_array_equal(counts[0] + counts[1], counts[2])
    np.testing.assert_array_equal(counts[1], np.round(0.2 * counts[2]))
    parts = sorted(image.tobytes() for part in (train, test) for image in part.pixels)
    assert parts == sorted(image.tobytes() for image in everything.pixels)
    assert test.sha256 == DIGITS_TEST_SHA256


def test_rescaling(tmp_path):
    assert load_images("digits", "test", size=(8, 8)).sha256 == load_images("digits", "test").sha256
    assert load_images("digits", "test", size=(16, 24)).pixels.shape == (359, 16, 24)
    step = np.zeros((1, 2, 4), np.uint8)
    step[:, :, 2:] = 200
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(step))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(1, np.uint8)))
    assert load_images(tmp_path, size=(2, 2)).pixels.tolist() == [[[29, 171]] * 2]
    assert load_images(tmp_path, size=(4, 8)).pixels[0, 0].tolist() == [0, 0, 0, 50, 150, 200, 200, 200]


# Download


@pytest.fixture
def server(tmp_path_factory, monkeypatch):
    """Serve a folder on this machine; return it and its address."""
    folder = tmp_path_factory.mktemp("mirror")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *_):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


@pytest.fixture
def mirror(server, idx_folder, monkeypatch):
    """Make the served folder a small MNIST with hashes of its own."""
    folder, address = server
    hashes = {}
    for name in images.MNIST_SHA256:
        array = pixels(2) if "images" in name else np.array([0, 1], np.uint8)
        content = gzip.compress(idx_bytes(array))
        (folder / name).write_bytes(content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(images, "MNIST_SHA256", hashes)
    return folder, address


def test_fetch_mnist(mirror, tmp_path):
    served, address = mirror
    target = tmp_path / "new" / "mnist"
    assert fetch_mnist(target, mirrors=[address + "elsewhere", address]) == target
    assert sorted(p.name for p in target.iterdir()) == sorted(images.MNIST_SHA256)
    assert len(load_images(target)) == 4
    for path in served.iterdir():
        path.unlink()
    assert fetch_mnist(target, mirrors=[address]) == target  # nothing to download


def test_fetch_mnist_refuses_other_content(mirror, tmp_path):
    served, address = mirror
    name = "t10k-labels-idx1-ubyte.gz"
    (served / name).write_bytes(b"something else")
    with pytest.raises(OSError, match=rf"could not download {name}(.|\n)*elsewhere(.|\n)*404(.|\n)*hash"):
        fetch_mnist(tmp_path / "target", mirrors=[address + "elsewhere", address])
    assert not (tmp_path / "target" / name).exists()


# Real files


def test_mnist(data_path):
    folder = data_path / "mnist"
    for name, sha256 in images.MNIST_SHA256.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
    train, test = load_images(folder, "train"), load_images(folder, "test")
    assert train.pixels.shape == (60000, 28, 28)
    assert test.pixels.shape == (10000, 28, 28)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_caltech(data_path, tmp_path):
    for name in ("Faces", "Motorbikes"):
        (tmp_path / name).mkdir()
        for path in sorted((data_path / "caltech" / name).iterdir())[:3]:
            (tmp_path / name / path.name).symlink_to(path)
    with pytest.raises(ValueError, match=r"images differ in size.*--size HxW"):
        load_images(tmp_path)
    found = load_images(tmp_path, size=(160, 250))
    assert found.pixels.shape == (6, 160, 250)
    assert found.names == ("Faces", "Motorbikes")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.pixels.std(axis=(1, 2)).min() > 20
