"""What notebooks show: the numbers, escaped text, and nothing read for it."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest

import eventsnn as es


def facts(shown):
    """Return the rows of what an object shows, which is sound markup."""
    tree = ElementTree.fromstring(shown._repr_html_())
    return {row[0].text: row[1].text for row in tree.iter("tr")}


def some_events(**fields):
    times = [0, 1, 1, 3, 9, 9]
    offsets = [0, 4, 6]
    return es.Events.from_columns(
        times, [0] * 6, [0, 1, 0, 1, 0, 1], [1] * 6, shape=(1, 2, 5), offsets=offsets, duration=10, **fields
    )


def test_events():
    assert facts(some_events(labels=[7, 3])) == {
        "samples": "2",
        "spikes": "6, 3.0 a sample",
        "grid": "1 x 2 x 5 (channels x height x width)",
        "duration": "10 bins",
        "density": "30 % (20 % to 40 %) spikes for each neuron and sample",
        "classes": "2 (3: 1, 7: 1)",
    }
    assert facts(some_events(unit="us"))["duration"] == "10 µs"
    assert "classes" not in facts(some_events())
    empty = facts(es.Events.empty((1, 2, 2)))
    assert empty["spikes"] == "0"
    assert "svg" not in es.Events.empty((1, 2, 2), 3)._repr_html_()


def test_the_histogram_has_a_bar_for_each_time_with_spikes():
    (path,) = ElementTree.fromstring(some_events()._repr_html_()).iter("path")
    bars = re.findall(r"M(\d+) 40v-(\d+)h", path.get("d"))
    assert [(int(left) // 36, int(high)) for left, high in bars] == [(0, 20), (1, 40), (3, 20), (9, 40)]


def test_many_classes_are_not_all_named():
    events = es.Events.empty((1, 1, 1), 40, labels=np.arange(40))
    assert facts(events)["classes"].startswith("40 (0: 1, ")
    assert facts(events)["classes"].endswith("11: 1, ...)")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a<b>.h5"
    with es.EventWriter(path, (1, 2, 5), 10, source="<script>alert(1)</script>") as writer:
        writer.append(some_events(labels=[7, 3]))
    return path


def test_a_data_set_is_shown_without_reading_events(file):
    with es.EventDataset(file) as dataset:
        known = facts(dataset)
        assert "<script" not in dataset._repr_html_()
    assert known["file"] == str(file)
    assert known["spikes"] == "6, 3.0 a sample"
    assert known["source"] == "<script>alert(1)</script>"
    with h5py.File(file, "r+") as stored:
        for name in "tcyx":  # times that no reader would take
            if f"events/{name}" in stored:
                stored[f"events/{name}"][:] = stored[f"events/{name}"][:][::-1]
    with es.EventDataset(file) as dataset:
        assert facts(dataset) == known
        with pytest.raises(es.DatasetError):
            dataset.load()


def test_a_recording_is_shown_by_its_header(tmp_path):
    np.save(tmp_path / "a.npy", some_events(unit="us").to_structured()[0])
    known = facts(es.open(tmp_path / "a.npy"))
    assert known["format"] == "NumPy"
    assert known["sensor"] == "not said"
    assert known["events"] == "4"
    assert facts(es.open(tmp_path / "a.npy", width=5, height=2))["sensor"] == "5 x 2 (width x height)"


def test_spike_samples(tmp_path):
    path = tmp_path / "shd.h5"
    with h5py.File(path, "w") as stored:
        for name, kind in (("times", np.float16), ("units", np.uint16)):
            column = stored.create_dataset(f"spikes/{name}", 2, h5py.vlen_dtype(kind))
            column[0], column[1] = np.array([0.5], kind), np.array([], kind)
        stored["labels"] = np.array([4, 4])
    assert facts(es.open(path)) == {"file": str(path), "samples": "2", "units": "700", "classes": "1 (4: 2)"}


def test_a_network_is_a_table_of_its_layers():
    net = es.Network([es.Conv(3, kernel=2, threshold=1.5), es.Pool(2), es.Dense(4, threshold=es.inf)], (2, 5, 5))
    net.set_thresholds(0, [1, 2, 3])
    tree = ElementTree.fromstring(net._repr_html_())
    cells = [[cell.text or "" for cell in row] for row in tree.iter("tr")]
    assert cells == [
        ["", "layer", "grid", "neurons", "weights", "threshold"],
        ["", "input", "2 x 5 x 5", "50", "", ""],
        ["0", str(net.layers[0]), "3 x 4 x 4", "48", "24", "1 to 3"],
        ["1", str(net.layers[1]), "3 x 2 x 2", "12", "", ""],
        ["2", str(net.layers[2]), "4 x 1 x 1", "4", "48", "inf"],
    ]
    assert tree[0].text == f"Network: 72 weights, computed by {net.backend.name}"


def test_showing_takes_no_heavy_library():
    program = (
        "import sys, eventsnn as es; es.Events.empty((1, 2, 2), 3)._repr_html_()\n"
        "assert not {'matplotlib', 'PIL', 'h5py', 'numba', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=Path(es.__file__).parents[1], check=True)
