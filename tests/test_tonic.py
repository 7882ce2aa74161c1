"""Data sets of tonic's kind to event files and back, with a small one of our own, and with tonic where it is."""

import numpy as np
import pytest

from eventsnn import EventDataset, Events
from eventsnn.io import TonicSamples

ORDERS = ("xytp", "txyp", "ptyx")


class Fake:
    """Three recordings of a sensor of 5x4 pixels; fields in an order and times from an origin of their own."""

    sensor_size = (5, 4, 2)

    def __init__(self, fields=ORDERS, start=1000):
        rng = np.random.default_rng(0)
        self.samples = []
        for i, order in enumerate(fields):
            array = np.zeros(20 + i, [(name, bool if name == "p" else "i4") for name in order])
            for name, most in (("x", 5), ("y", 4), ("t", 300), ("p", 2)):
                if name in order:
                    array[name] = rng.integers(0, most, len(array))
            array["t"] += start
            array["t"][3] = start  # not the first in the array
            self.samples.append((array, np.int64(i % 2)))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def rows(array, start):
    names = array.dtype.names
    return sorted((int(e["t"]) - start, int(e["p"]), int(e["y"]) if "y" in names else 0, int(e["x"])) for e in array)


def spikes(events):
    return list(zip(events.time.tolist(), events.channel.tolist(), events.y.tolist(), events.x.tolist(), strict=True))


def test_all_events_come_in_canonical_order(tmp_path):
    fake = Fake()
    with EventDataset.from_tonic(fake, tmp_path / "a.h5") as found:
        assert (found.shape, found.unit) == ((2, 4, 5), "us")
        assert found.duration == 1 + max(int(array["t"].max()) - 1000 for array, _ in fake.samples)
        assert found.labels.tolist() == [0, 1, 0]
        assert found.provenance["source"] == "tonic: Fake"
        for i, (array, _) in enumerate(fake.samples):
            assert spikes(found[i]) == rows(array, 1000)


def test_origin_and_duration_can_be_given(tmp_path):
    fake = Fake()
    with EventDataset.from_tonic(fake, tmp_path / "a.h5", origin=0, duration=5000) as found:
        assert found.duration == 5000
        assert spikes(found[1]) == rows(fake.samples[1][0], 0)
    with pytest.raises(ValueError, match=r"sample 0: .*100"):
        EventDataset.from_tonic(fake, tmp_path / "b.h5", duration=100)
    assert not (tmp_path / "b.h5").exists()


def test_sound_has_one_row_and_one_polarity(tmp_path):
    """SHD in tonic: (700, 1, 1), without y, and p is always 1."""
    fake = Fake(("xtp", "txp"))
    fake.sensor_size = (5, 1, 1)
    with EventDataset.from_tonic(fake, tmp_path / "a.h5") as found:
        assert found.shape == (1, 1, 5)
        expected = sorted((t, 0, 0, x) for t, _, _, x in rows(fake.samples[0][0], 1000))
        assert spikes(found[0]) == expected


def test_what_does_not_fit_is_refused(tmp_path):
    fake = Fake()
    path = tmp_path / "a.h5"
    for size in (None, (5, 4), (5, 4, 0)):
        fake.sensor_size = size
        with pytest.raises(ValueError, match="sensor_size expects"):
            EventDataset.from_tonic(fake, path)
    with pytest.raises(ValueError, match="sample 0: "):
        EventDataset.from_tonic(fake, path, sensor_size=(3, 4, 2))
    for broken, message in (
        ((np.zeros((3, 4)), 0), "structured array"),
        ((fake.samples[0][0], "seven"), "integer as label"),
        ((np.zeros(3, [("x", "f4"), ("t", "i8")]), 0), "'x' expects integers"),
    ):
        fake.samples[1] = broken
        with pytest.raises(TypeError, match=f"sample 1: .*{message}"):
            EventDataset.from_tonic(fake, path, sensor_size=(5, 4, 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("on_disk", [False, True])
def test_samples_come_back(tmp_path, on_disk):
    fake = Fake()
    with EventDataset.from_tonic(fake, tmp_path / "a.h5") as dataset:
        found = TonicSamples(dataset if on_disk else dataset.load())
        assert (len(found), found.sensor_size) == (3, (5, 4, 2))
        for (array, label), (given, known) in zip(found, fake.samples, strict=True):
            assert rows(array, 0) == rows(given, 1000)
            assert (np.diff(array["t"]) >= 0).all()
            assert label == known
        assert rows(found[-1][0], 0) == rows(fake.samples[2][0], 1000)
        with pytest.raises(IndexError, match="sample 3 is outside of 3"):
            found[3]


def test_frames_count_the_spikes_of_each_part_of_the_duration():
    events = Events.from_columns([0, 49, 50, 99, 99], [0, 1, 0, 0, 0], [0] * 5, [1] * 5, shape=(2, 1, 2), duration=100)
    frames, label = TonicSamples(events, bins=2)[0]
    assert frames.dtype == np.float32
    assert frames.tolist() == [[[[0, 1]], [[0, 1]]], [[[0, 3]], [[0, 0]]]]
    assert label == -1
    changed = TonicSamples(events, bins=2, transform=np.sum, target_transform=abs)
    assert changed[0] == (5, 1)
    with pytest.raises(ValueError, match="bins expects at least 1"):
        TonicSamples(events, bins=0)


def test_tonic_takes_our_samples():
    transforms = pytest.importorskip("tonic.transforms", reason="tonic is not installed")
    events = Events.from_structured([Fake().samples[0][0]], shape=(2, 4, 5), labels=[3])
    samples = TonicSamples(events)
    array, label = samples[0]
    frames = transforms.ToFrame(sensor_size=samples.sensor_size, n_event_bins=1)(array)
    assert frames.shape == (1, 2, 4, 5)
    assert (int(frames.sum()), label) == (len(array), 3)


def test_a_loader_of_pytorch_makes_batches(tmp_path):
    data = pytest.importorskip("torch.utils.data", reason="PyTorch is not installed")
    with EventDataset.from_tonic(Fake(), tmp_path / "a.h5") as dataset:
        ((frames, labels),) = data.DataLoader(TonicSamples(dataset, bins=4), batch_size=3)
    assert tuple(frames.shape) == (3, 4, 2, 4, 5)
    assert labels.tolist() == [0, 1, 0]
