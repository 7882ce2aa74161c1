"""Workers of a Dask cluster, real processes: the same bits as here, also when one is killed in the midst of it."""

import json
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import eventsnn as es
from eventsnn import parallel
from eventsnn.io import EventDataset, Images, check, load_images, write
from eventsnn.models import Trained
from eventsnn.sources import Samples, write_encoded

distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'eventsnn[dask]'")

SHAPE = (2, 6, 6)
LAYERS = (
    es.Conv(5, 3, padding=1, threshold=3.5, init=es.Normal(0.5, 0.2)),
    es.Pool(2),
    es.Dense(6, threshold=es.inf, init=es.Normal(0, 1)),
)
CLASSES = [0, 1, 2, 0, 1, 2]


@pytest.fixture(scope="module")
def client():
    """Return a client of three workers, more than are killed here: whether Dask starts others is not our business.

    They take the kernels that this process has compiled before them.
    """
    options = {"n_workers": 3, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(**options, processes=True, env={"EVENTSNN_THREADS": "1"}) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("events") / "train.h5"
    rng = np.random.default_rng(0)
    latency = rng.integers(-4, 9, (60, *SHAPE)).clip(-1)
    events = es.Events.from_latency(latency, duration=9, labels=rng.integers(0, 3, 60))
    with es.EventWriter(path, SHAPE, 9, source="drawn", source_sha256="ab" * 32) as writer:
        writer.append(events, rng.integers(0, 4, 60))
    return path


def network():
    return es.Network(LAYERS, SHAPE, seed=1, backend="cpu")


def pids(client):
    return sorted(client.run(os.getpid, on_error="ignore").values())


class Killer:
    """Kills a worker the ``at``-th time that it is called, whatever it is called with."""

    def __init__(self, client, at=1):
        self.client, self.calls, self.at, self.pid = client, 0, at, None

    def __call__(self, *_):
        self.calls += 1
        if self.calls == self.at:
            self.pid = pids(self.client)[0]
            os.kill(self.pid, signal.SIGKILL)


def same_evaluation(found, expected):
    assert found.to_dict() == expected.to_dict()
    assert np.array_equal(found.decisions, expected.decisions)


def same_matrix(found, expected):
    for name in ("data", "indices", "indptr"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


def test_inference(client, path):
    net, seen = network(), []
    with EventDataset(path) as data:
        expected = es.evaluate(net, data, classes=CLASSES)
        found = parallel.evaluate(
            client, net, path, classes=CLASSES, batch_size=4, shard=50, progress=lambda *now: seen.append(now)
        )
        same_evaluation(found, expected)
        assert seen[-1] == (60, 60, "evaluate")
        assert np.array_equal(parallel.decide(client, net, data, CLASSES), expected.decisions)
        kind = es.Feature("potential", regions=(2, 2))
        rows = es.features(net, data, kind, stop=1)
        same_matrix(parallel.features(client, net, path, kind, stop=1, batch_size=3), rows)
        for backend, samples in ((None, [3, 4, 9, 40]), ("reference", [7])):
            part = Samples(data, np.array(samples))
            same_matrix(parallel.features(client, net, part, kind, stop=1, backend=backend), rows[samples])
        readout = es.LinearReadout().fit(es.features(net, data), data.labels)
        same_evaluation(parallel.evaluate(client, net, path, readout), es.evaluate(net, data, readout))


def test_a_profile(client, path):
    with EventDataset(path) as data, parallel.computed_by(client, network(), shard=50) as remote:
        found, expected = (es.study.profile(net, data) for net in (remote, network()))
    for layer, other in zip(found.layers, expected.layers, strict=True):
        for name in ("spikes", "operations", "stopped", "spikes_over_time"):
            assert np.array_equal(getattr(layer, name), getattr(other, name))
    assert found.layers[0].stopped.any()


def test_inference_to_a_file(client, path, tmp_path):
    net, out = network(), tmp_path / "spikes.h5"
    parallel.run(client, net, path, out, stop=2)
    check(out)
    with EventDataset(path) as data, EventDataset(out) as spikes:
        expected = net.run(data, stop=2)
        assert spikes.load().equals(expected)
        assert np.array_equal(spikes.groups, data.groups)
        assert spikes.provenance["source_sha256"] == data.provenance["source_sha256"]
    with pytest.raises(ValueError, match="layers expects 0 <= start"):
        parallel.run(client, net, path, out, stop=9)
    with pytest.raises(ValueError, match="expects 5 input channels"):
        parallel.run(client, net, path, out, start=1)
    seen = []
    parallel.run(client, net, path, out, stop=0, progress=lambda *now: seen.append(now))
    with EventDataset(path) as data, EventDataset(out) as same:
        assert same.load().equals(data.load())
    assert seen[-1] == (60, 60, "run")
    assert [file.name for file in tmp_path.iterdir()] == ["spikes.h5"]


def test_encoding(client, tmp_path, monkeypatch):
    monkeypatch.setattr("eventsnn.sources._CHUNK", 7)
    rng = np.random.default_rng(2)
    pixels, labels = rng.integers(0, 256, (30, 12, 12), dtype=np.uint8), rng.integers(0, 3, 30)
    images = Images(pixels, labels, ("a", "b", "c"), "drawn", rng.integers(0, 2, 30))
    encoder = es.encode.ImageEncoder((es.encode.FitPatchZCA(3), es.encode.OnOff()), es.encode.EqualBins(15))
    parallel.encode(client, encoder, images, tmp_path / "there.h5")
    write_encoded(tmp_path / "here.h5", images, encoder)
    with EventDataset(tmp_path / "there.h5") as there, EventDataset(tmp_path / "here.h5") as here:
        assert there.load().equals(here.load())
        assert there.provenance == here.provenance
        assert np.array_equal(there.groups, here.groups)


TRAININGS = {
    "first layer": {"layer": 0, "rule": es.STDP(0.05, -0.04, tau=3.0), "competition": es.WTA(2, radius=1)},
    "own rule": {
        "layer": 0,
        "rule": es.Custom(lambda w, dt, potential: w + 0.01 * potential if dt >= 0 else w - 0.02),
        "shuffle": True,
    },
    "thresholds, patches": {
        "layer": 0,
        "rule": es.STDP(0.1, -0.04),
        "adaptation": es.ThresholdAdaptation(0.3, 0.6, floor=1.5),
        "patches": True,
        "inhibit_input": True,
    },
    "from reward": {
        "layer": 2,
        "rule": es.RSTDP(reward=(0.1, -0.05), punish=(-0.08, 0.04)),
        "classes": CLASSES,
        "dropout": 0.3,
    },
}


def learnt(fit, data, **options):
    net = network()
    history = fit(net, data, mini_batch=16, epochs=2, seed=3, **options)
    held = [*net.weights.values(), *net.thresholds.values(), history.curve, *(e.winners for e in history.epochs)]
    return [*held, net.classes, history.validation]


def same_learning(found, expected):
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(found, network().weights.values(), strict=False))


@pytest.mark.parametrize("options", TRAININGS.values(), ids=TRAININGS)
def test_learning(client, path, options, tmp_path):
    with EventDataset(path) as data:
        options = options | ({"validation": data} if options["layer"] else {})
        expected = learnt(es.fit, data, **options)
        found = learnt(partial(parallel.fit, client), path, folder=tmp_path, **options)
    same_learning(found, expected)
    assert not list(tmp_path.iterdir())


def die_once(marker):
    """Kill this process, unless there is the marker, which whoever comes first makes, with its number."""
    try:
        with Path(marker).open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_during_an_evaluation(client, path):
    killer, net = Killer(client, at=2), network()
    with EventDataset(path) as data:
        expected = es.evaluate(net, data, classes=CLASSES)
    same_evaluation(parallel.evaluate(client, net, path, classes=CLASSES, batch_size=2, progress=killer), expected)
    assert killer.pid not in pids(client)


def test_a_worker_that_dies_while_a_layer_learns(client, path, tmp_path):
    marker = tmp_path / "died"

    def choose(spikes):
        die_once(marker)
        return [0] if spikes.n_events else []

    options = {"layer": 2, "rule": es.STDP(0.05, -0.04), "competition": es.Competition(choose)}
    found = learnt(partial(parallel.fit, client), path, **options)
    assert int(marker.read_text()) not in [os.getpid(), *pids(client)]
    with EventDataset(path) as data:
        same_learning(found, learnt(es.fit, data, **options))
    assert sorted(path.parent.iterdir()) == [path]


def test_what_lies_in_memory_stays_here(client, path):
    net = network()
    with EventDataset(path) as data, parallel.computed_by(client, net) as remote:
        events = data[:9]
        assert remote.run(events).equals(net.run(events))
        es.fit(remote, events, layer=0, rule=es.STDP(0.1, -0.1), mini_batch=4)
        alone = network()
        es.fit(alone, events, layer=0, rule=es.STDP(0.1, -0.1), mini_batch=4)
    assert np.array_equal(net.weights[0], alone.weights[0])


def test_errors_of_the_caller_come_up(client, path, tmp_path):
    net = network()
    with pytest.raises(TypeError, match=r"client expects a distributed\.Client, got 'here'"):
        parallel.evaluate("here", net, path)
    with pytest.raises(es.DatasetError, match=r"nothing\.h5"):
        parallel.evaluate(client, net, tmp_path / "nothing.h5")
    with pytest.raises(ValueError, match="backend expects one of"):
        parallel.evaluate(client, net, path, backend="nowhere")
    with pytest.raises(ValueError, match=r"mini_batch expects .*2.*, got 1"):
        parallel.fit(client, net, path, layer=0, rule=es.STDP(0.1, -0.1), mini_batch=1)
    with EventDataset(path) as data, parallel.computed_by(client, net) as remote:
        with pytest.raises(ValueError, match="mini_batch expects"):
            es.fit(remote, data, layer=0, rule=es.STDP(0.1, -0.1))
        write(copy := tmp_path / "copy.h5", data[:5])
        with EventDataset(copy) as replaced:
            write(copy, data[:6])
            with pytest.raises(es.DatasetError, match="was replaced by another data set"):
                es.evaluate(remote, replaced)
    with pytest.raises(ZeroDivisionError):
        parallel.fit(
            client, net, path, layer=0, mini_batch=8, rule=es.STDP(0.1, -0.1),
            competition=es.Competition(lambda spikes: 1 / 0),
        )  # fmt: skip
    assert np.array_equal(net.weights[0], network().weights[0])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a run's folder, and a file of events for it."""
    folder, made = tmp_path_factory.mktemp("model"), es.models.digits()
    write_encoded(folder / "test.h5", load_images("digits")[:12], made.encoder)
    with EventDataset(folder / "test.h5") as data:
        net = es.Network(made.layers, data.shape, seed=2)
        readout = es.LinearReadout(kind=made.readout.kind).fit(es.features(net, data, made.readout.kind), data.labels)
    Trained(made.name, made.encoder, made.size, net, readout).save(folder / "run")
    return folder


def test_the_command_line(client, model, tmp_path, call):
    on_dask = ("--dask", client.scheduler.address)
    given = (model / "run", "--data", model / "test.h5")
    results, files = [], []
    for where in (
        (),
        on_dask,
        (*on_dask, "--backend", "reference"),
        ("--devices", "cpu:0, cpu:1"),
    ):
        code, said, _ = call("evaluate", *given, "--json", *where)
        assert code == 0
        results.append(json.loads(said.splitlines()[-1]))
        files.append(tmp_path / f"features{len(files)}.h5")
        assert call("features", *given, "-o", files[-1], "--kind", "latency", *where)[0] == 0
    assert all(result.pop("seconds") > 0 for result in results)
    assert results[1:] == results[:1] * 3
    here, *others = (es.read_features(file) for file in files)
    for there in others:
        same_matrix(there.features, here.features)
        assert there.meta == here.meta
        assert np.array_equal(there.labels, here.labels)


def test_wrong_places(model, tmp_path, call, monkeypatch):
    monkeypatch.setattr(parallel, "TIMEOUT", "1s")
    nobody = ("--dask", "tcp://127.0.0.1:1", "-o", tmp_path / "out.h5")
    code, _, said = call("features", model / "run", "--data", "digits", *nobody)
    assert code == 2
    assert "--dask expects an event file that all workers see, got digits" in said
    code, _, said = call("features", model / "run", "--data", model / "test.h5", *nobody)
    assert code == 1
    assert re.fullmatch(r"eventsnn features: .*tcp://127\.0\.0\.1:1.*\n", said)
    given = ("features", model / "run", "--data", model / "test.h5", "-o", tmp_path / "out.h5")
    for wrong, message in (
        (("--devices", "cpu,nothing"), "--devices: backend expects one of"),
        (("--devices", "cpu", *nobody[:2]), "expected --devices or --dask, got both"),
        (("--devices", "cpu", "--backend", "cpu"), "expected --devices or --backend, got both"),
    ):
        code, _, said = call(*given, *wrong)
        assert code == 2
        assert message in said
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, _, said = call("features", model / "run", "--data", model / "test.h5", *nobody)
    assert code == 2
    assert "pip install 'eventsnn[dask]'" in said
    assert not list(tmp_path.iterdir())


def test_another_version_is_refused():
    from eventsnn.parallel import _tasks

    with pytest.raises(RuntimeError, match=r"version of eventsnn, 0\.0\.0, found"):
        _tasks.hold("0.0.0", None)


def test_without_dask_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ModuleNotFoundError, match=r"pip install 'eventsnn\[dask\]'"),
        parallel.connect("tcp://localhost:1"),
    ):
        pass
