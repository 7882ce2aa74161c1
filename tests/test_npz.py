"""Images and groups of ``.npz`` files: read, carried into event files and held out whole; bad files are one error."""

import io
import json
import struct
import zipfile
from unittest import mock

import numpy as np
import pytest

from eventsnn import cli
from eventsnn.encode import EqualBins, ImageEncoder
from eventsnn.io import EventDataset, EventWriter, check, info, load_images
from eventsnn.sources import held_out, hold_out, write_encoded


def arrays(seed=0):
    """Return 12 images of 3 classes with 2 objects each, of which each has 2 views."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 4, 5)).astype(np.uint8)
    return {"images": pixels, "labels": np.arange(12, dtype=np.int16) // 4, "groups": np.arange(12) // 2 % 2}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "images.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(("label", "group"), [("labels", "groups"), ("category", "object"), ("y", "group")])
def test_images_labels_and_groups_are_read(path, save, label, group):
    given = arrays()
    names = np.array(["apple", "car", "cow"])
    others = {f"{label}_names": names, "azimuth": np.arange(12), "anything": np.array([{}])}  # not read
    save(path, images=given["images"], **{label: given["labels"].astype("u1"), group: given["groups"]}, **others)
    images = load_images(path)
    assert (images.pixels == given["images"]).all()
    assert (images.labels == given["labels"]).all()
    assert (images.groups == given["groups"]).all()
    assert images.names == ("apple", "car", "cow")
    assert images.source == "images.npz"
    assert (images[3:5].groups == given["groups"][3:5]).all()
    assert load_images(path, size=(8, 8)).pixels.shape == (12, 8, 8)
    assert (load_images(path, size=(8, 8)).groups == given["groups"]).all()


def test_without_groups_and_names(path):
    given = arrays()
    np.savez(path, images=np.asfortranarray(given["images"]), labels=given["labels"].astype(">i4"))
    images = load_images(path)
    assert (images.pixels == given["images"]).all()
    assert images.names == ("0", "1", "2")
    assert images.groups is None
    assert images[:2].groups is None
    with pytest.raises(ValueError, match=r"images\.npz: expected the arrays x_test and y_test of the test part"):
        load_images(path, "test")


def test_parts(path):
    first, second = arrays(0), arrays(1)
    parts = {"x_train": first["images"], "y_train": first["labels"], "x_test": second["images"]}
    np.savez(path, **parts, y_test=second["labels"])
    assert (load_images(path, "train").pixels == first["images"]).all()
    assert (load_images(path, "test").pixels == second["images"]).all()
    assert (load_images(path).pixels == np.concatenate([first["images"], second["images"]])).all()
    assert load_images(path, "test").source == "images.npz (test)"


def header(shape, dtype="|u1"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def npz(members, compression=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            if isinstance(content, np.ndarray):
                file = io.BytesIO()
                np.save(file, content)
                content = file.getvalue()
            archive.writestr(f"{name}.npy", content)
    return out.getvalue()


LABELS = {"labels": np.zeros(2, np.int64)}
IMAGES = {"images": np.zeros((2, 3, 3), np.uint8)}
BAD = {
    "text": (b"no zip", "not a readable .npz file: File is not a zip file"),
    "empty": (npz({}), "expected images under 'images' .*, found the arrays none"),
    "no labels": (npz(IMAGES), "expected labels under 'labels' or 'category' or 'y' .*, found the arrays images"),
    "two labels": (npz(IMAGES | LABELS | {"y": LABELS["labels"]}), "expected labels under .* images, labels, y"),
    "float images": (npz({"images": np.zeros((2, 3, 3))} | LABELS), "'images' expects uint8 of 3 axes .* float64"),
    "colour": (npz({"images": np.zeros((2, 3, 3, 3), np.uint8)} | LABELS), r"'images' expects .*\(2, 3, 3, 3\)"),
    "too few labels": (npz(IMAGES | {"labels": np.zeros(1, int)}), "'labels' expects 2 integers, one for each image"),
    "text labels": (npz(IMAGES | {"labels": np.array(["a", "b"])}), "'labels' expects 2 integers"),
    "a label below 0": (npz(IMAGES | {"labels": np.array([0, -1])}), "labels expects 0 to 65535, found -1 to 0"),
    "a large label": (npz(IMAGES | {"labels": np.array([0, 1 << 40])}), "labels expects 0 to 65535"),
    "few groups": (npz(IMAGES | LABELS | {"groups": np.zeros(3, int)}), "'groups' expects 2 integers"),
    "few names": (npz(IMAGES | {"y": np.array([0, 1]), "y_names": np.array(["a"])}), "labels expects 0 to 0"),
    "objects": (npz({"images": np.array([{}, {}])} | LABELS), "'images' expects uint8 of 3 axes .*, found object"),
    "huge": (npz({"images": header((10**6, 10**6, 10**3))} | LABELS), "declares shape .*, more than the file can hold"),
    "negative": (npz({"images": header((2, -3, -3))} | LABELS), "declares shape"),
    "longer": (npz({"images": header((2, 3, 3)) + bytes(19)} | LABELS), "'images' expects 18 bytes .*, found more"),
    "shorter": (npz({"images": header((2, 3, 3)) + bytes(17)} | LABELS), "'images' expects 18 bytes .*, found fewer"),
    "no array": (npz({"images": b"none"} | LABELS), "magic|reading"),
    "no header": (npz({"images": b"\x93NUMPY\x01\x00\x04\x00(((\n"} | LABELS), "header"),
    "lzma": (npz(IMAGES | LABELS, zipfile.ZIP_LZMA), "'images' is compressed in another way than NumPy does"),
    "cut": (npz(IMAGES | LABELS)[:-30], "not a readable .npz file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_error_that_names_it(path, name):
    content, message = BAD[name]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"images\.npz: .*({message})") as caught:
        load_images(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(path):
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    content[200] ^= 1  # in the pixels
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not a readable \.npz file: Bad CRC-32"):
        load_images(path)


def test_nothing_is_unpickled(path):
    np.savez(path, images=np.array([{}, {}]), labels=np.zeros(2, int))
    refused = pytest.raises(ValueError, match="'images' expects")
    with mock.patch("pickle.loads") as loads, mock.patch("pickle.load") as load, refused:
        load_images(path)
    assert not loads.called
    assert not load.called


def encoded(tmp_path, path):
    np.savez(path, **arrays())
    target = tmp_path / "events.h5"
    write_encoded(target, load_images(path), ImageEncoder((), EqualBins(5)))
    return target


def test_groups_go_into_the_event_file(tmp_path, path, monkeypatch):
    monkeypatch.setattr("eventsnn.sources._CHUNK", 5)
    target = encoded(tmp_path, path)
    with EventDataset(target) as dataset:
        assert dataset.groups.tolist() == arrays()["groups"].tolist()
        assert dataset.groups.dtype == np.int64
        assert not dataset.groups.flags.writeable
    assert info(target)["groups"] == 6  # two of each of three classes
    assert check(target)["groups"] == 6


def test_whole_groups_are_held_out(tmp_path, path):
    with EventDataset(encoded(tmp_path, path)) as dataset:
        learn, held = hold_out(dataset, 0.1)  # at least one of each class
        assert learn.indices.tolist() == [0, 1, 4, 5, 8, 9]
        assert held.indices.tolist() == [2, 3, 6, 7, 10, 11]


def test_groups_need_not_lie_together():
    labels, groups = np.array([0, 1] * 6), np.array([7, 7, 2, 2, 5, 5, 7, 3, 2, 2, 5, 3])
    held = held_out(labels, groups, 0.6)
    assert held.tolist() == [
        groups[i] in ((2, 5), (2, 5, 3))[labels[i]] and (labels[i], groups[i]) != (1, 2) for i in range(12)
    ]
    assert not held_out(labels, groups, 0).any()
    assert not held_out(labels, np.zeros(12, int), 0.3).any()  # a class of one group stays whole


def test_batches_agree_about_groups(tmp_path):
    batch, target = ImageEncoder((), EqualBins(5)).encode(arrays()["images"]), tmp_path / "new.h5"
    with EventWriter(target, (1, 4, 5), 5) as writer:
        writer.append(batch, np.arange(12))
        with pytest.raises(ValueError, match="the batches before it had groups"):
            writer.append(batch)
    assert info(target)["samples"] == 12
    target.unlink()
    for groups, message in (
        (np.arange(11), "groups expects 12 integers, got int64 of shape"),
        (np.zeros(12), "groups expects 12 integers, got float64"),
    ):
        with pytest.raises(ValueError, match=message), EventWriter(target, (1, 4, 5), 5) as writer:
            writer.append(batch, groups)
    assert not target.exists()


def call(*arguments):
    with pytest.raises(SystemExit) as left:
        cli.main(list(map(str, arguments)))
    return left.value.code or 0


def test_the_commands_take_such_a_file(tmp_path, capsys):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 16, 16)).astype(np.uint8)
    source = tmp_path / "objects.npz"
    np.savez(source, images=pixels, category=np.arange(24) // 12, object=np.arange(24) // 3 % 4)
    assert call("encode", source, "-o", tmp_path / "events.h5", "--encoder", "digits") == 0
    assert call("info", tmp_path / "events.h5") == 0
    assert "groups         8\n" in capsys.readouterr().out
    common = ["--epochs", "1,1", "--validation", "0.25"]
    assert call("train", "digits", "--data", tmp_path / "events.h5", "-o", tmp_path / "file", *common) == 0
    assert call("train", "digits", "--data", source, "-o", tmp_path / "images", *common) == 0
    out = capsys.readouterr().out
    assert out.count("6 are held out, whole groups") == 2
    assert f"Next: eventsnn evaluate {tmp_path / 'images'} --data TEST.npz" in out
    logs = [json.loads((tmp_path / name / "log.json").read_text()) for name in ("file", "images")]
    assert logs[0]["steps"][1]["epochs"][0]["winners"] == logs[1]["steps"][1]["epochs"][0]["winners"]
    assert logs[1]["validation"]["samples"] == 6
    assert call("evaluate", tmp_path / "images", "--data", source) == 0
    assert "trained on" in capsys.readouterr().out


def test_eth80(data_path):
    images = load_images(data_path / "eth80" / "eth80_gray128.npz", size=(8, 8))
    assert images.pixels.shape == (3280, 8, 8)
    assert images.names[:3] == ("apple", "car", "cow")
    held = held_out(images.labels, images.groups, 1 / 12)
    assert held.sum() == 328  # one object of ten, with 41 views, of each of eight categories
    assert set(images.groups[held]) == {8}  # apple9: file names are sorted as text
