"""Studies of time: what is counted, what is fitted, files of settings, and runs that are cut and continued."""

import importlib.util
import itertools
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer

import eventsnn as es
from eventsnn import cli, study, study_command
from eventsnn.io import write
from eventsnn.network import Network
from eventsnn.study import LayerShape, Scaling, Sparsity, Tradeoff, cost, dense, growth, results
from eventsnn.study.config import from_dict, load, small
from eventsnn.study.crossover import interleaved
from eventsnn.study.shapes import GRID, Case, on_grid, published
from eventsnn.study.stimuli import real, synthetic, thinned
from eventsnn.study.work import counted

EXAMPLES = Path(es.__file__).parents[1] / "examples"
TORCH = importlib.util.find_spec("torch") is not None
TINY = (
    LayerShape((2, 8, 8), 6, 3, 1),
    LayerShape((2, 7, 9), 40, 3, 0, 2, held_out=True),
    LayerShape((3, 4, 4), 5, 4, threshold=math.inf),
)
FEW = Sparsity(networks=(), shapes=TINY, densities=(0.2, 0.9), batches=(3,), bins=4, seconds=1e-6)


@pytest.fixture(scope="module")
def few():
    return study.sparsity(FEW, command="by hand")


# What is counted


def by_hand(case, net, events):
    """Count additions neuron by neuron and block by block, in plain loops."""
    (kh, kw), (sh, sw), (ph, pw) = case.conv.kernel, case.conv.stride, case.conv.padding
    weights, thresholds = net.weights[0], net.thresholds[0]
    maps, (oh, ow) = len(weights), net.shapes[1][1:]
    listings = additions = stopped = 0
    for s, oy, ox in itertools.product(range(len(events)), range(oh), range(ow)):
        one = events[s]
        inside = [
            (int(t), int(c), int(y) - oy * sh + ph, int(x) - ox * sw + pw)
            for t, c, y, x in zip(one.time, one.channel, one.y, one.x, strict=True)
        ]
        inside = [(t, c, y, x) for t, c, y, x in inside if 0 <= y < kh and 0 <= x < kw]
        listings += len(inside)
        for first in range(0, maps, 32):
            last = 0
            for m in range(first, min(first + 32, maps)):
                potential, fired = 0.0, None
                for t, c, y, x in inside:
                    if fired is not None and t > fired:
                        break
                    potential += weights[m, c, y, x]
                    if fired is None and potential > thresholds[m]:
                        fired = t
                used = sum(fired is None or t <= fired for t, *_ in inside)
                stopped += len(inside) - used
                last = max(last, used)
            if len(inside) > thresholds[first] / weights[first : first + 32].max():
                additions += 32 * last
    n = len(events)
    return {"listings": listings / n, "additions": additions / n, "stopped": stopped / n}


@pytest.mark.parametrize(
    "case",
    [
        Case(es.Conv(6, 3, padding=1, threshold=3), None, (2, 7, 6), None, False),
        Case(es.Conv(40, (2, 3), stride=2, threshold=2), es.Pool(2), (2, 7, 9), None, False),
    ],
)
def test_work_is_what_a_count_in_loops_finds(case):
    net, events = case.network("reference"), synthetic(case.shape, 0.6, 5, 2, 0)
    net.set_weights(0, case.weights(3))
    found, expected = counted(case, net, events), by_hand(case, net, events)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert 0 < found["stopped"] < found["operations"] == found["listings"] * case.conv.features
    assert found["spikes"] == net.run(events).n_events / 2
    assert found["positions"] == math.ceil(case.conv.features / 32) * math.prod(net.shapes[1][1:])


def test_a_layer_that_decides_adds_where_somebody_may_have_the_largest_potential():
    case = LayerShape((3, 4, 4), 40, 3, 1, threshold=math.inf).case()
    net, events = case.network("reference"), synthetic(case.shape, 0.5, 5, 2, 0)
    weights = case.weights(3)
    net.set_weights(0, weights)
    rows = 0
    for s in range(2):
        inside, potential = {}, {}
        for oy, ox in np.ndindex(4, 4):
            seen = [
                weights[:, c, y - oy + 1, x - ox + 1]
                for c, y, x in zip(events[s].channel, events[s].y.astype(int), events[s].x.astype(int), strict=True)
                if 0 <= y - oy + 1 < 3 and 0 <= x - ox + 1 < 3
            ]
            inside[oy, ox], potential[oy, ox] = len(seen), np.sum(seen, axis=0).max(initial=0)
        able = [n for n in inside.values() if n * weights.max() >= max(potential.values())]
        assert 0 < len(able) < 16
        rows += sum(able)
    assert counted(case, net, events)["additions"] == 2 * 32 * rows / 2


def test_learnt_weights_are_0_or_1_and_so_many_that_neurons_can_fire():
    case = LayerShape((6, 28, 28), 100, 5, 2, threshold=15).case()
    weights = case.weights(0)
    assert set(np.unique(weights)) == {0, 1}
    assert weights.sum((1, 2, 3)).mean() == pytest.approx(24, rel=0.05)
    assert np.array_equal(weights, case.weights(0))
    deciding = LayerShape((3, 4, 4), 5, 4, threshold=math.inf).case().weights(0)
    assert deciding.min() >= 0.2
    assert deciding.max() <= 0.8


# The dense version


def latency_of(fired, samples, bins):
    """Return when each neuron first fires, -1 where it does not, of booleans (samples * bins, maps, height, width)."""
    waves = np.concatenate([np.asarray(part) for part in fired]).reshape(samples, bins, *np.shape(fired[0])[1:])
    return np.where(waves.any(1), waves.argmax(1), -1)


@pytest.mark.parametrize("pool", [None, es.Pool(2), es.Pool(3, 2, padding=1)])
def test_the_dense_version_fires_when_the_network_does(pool):
    case = Case(es.Conv(6, 3, stride=1, padding=1, threshold=3), pool, (2, 9, 8), None, False)
    events, weights = synthetic(case.shape, 0.5, 5, 4, 1), case.weights(0)
    net = case.network("reference")
    net.set_weights(0, weights)
    expected = net.run(events).to_latency()
    assert (expected >= 0).any()
    assert (expected < 0).any()
    waves = dense.waves_of(case, events)
    _, ways = dense.ways(case, weights, 4, 1)
    assert len(ways) == (4 if TORCH else 1)
    for way in ways:
        assert np.array_equal(latency_of(way(waves)(), 4, 5), expected)


def test_a_dense_layer_that_decides_has_the_largest_potential():
    case = LayerShape((3, 4, 4), 5, 4, threshold=math.inf).case()
    events, weights = synthetic(case.shape, 0.5, 5, 4, 1), case.weights(0)
    expected = np.einsum("ncyx,mcyx->nm", events.to_latency() >= 0, weights).max(1)
    _, ways = dense.ways(case, weights, 4, 1)
    for way in ways:
        found = np.concatenate([np.ravel(part) for part in way(dense.waves_of(case, events))()])
        assert found == pytest.approx(expected, rel=1e-6)


# Layers and stimuli


def test_every_layer_of_every_published_network_is_there_once():
    cases = published(tuple(es.models.MODELS))
    assert len(set(cases)) == len(cases)
    for name, make in es.models.MODELS.items():
        model = make()
        theirs = [case for case in cases if name in case.networks.split(", ")]
        assert [case.conv.features for case in theirs] == [x.features for x in model.layers if isinstance(x, es.Conv)]
    digits = [case for case in cases if case.networks == "digits"]
    assert [(str(case.pool), case.shape) for case in digits] == [("Pool(2)", (2, 16, 16)), ("Pool(2)", (32, 8, 8))]
    assert all(case.held_out for case in cases)


def test_layers_that_see_real_events():
    cases = [shape.case() for shape in TINY] + published(["digits"])
    assert on_grid(cases, (2, 8, 8))[0] == cases[0]
    first = on_grid(cases, (2, 34, 34))
    assert [(str(case.conv), case.shape, case.networks) for case in first] == [
        ("Conv(32, kernel=5)", (2, 34, 34), None)
    ]
    assert on_grid(cases[:3], (1, 2, 2)) == []


def test_synthetic_and_thinned_density():
    events = synthetic((2, 50, 50), 0.3, 15, 4, 0)
    assert events.density().mean() == pytest.approx(0.3, rel=0.05)
    assert events.duration == 15
    kept = thinned(events, 0.25, 0)
    assert kept.n_events / events.n_events == pytest.approx(0.25, rel=0.05)


def test_real_events_come_in_bins_and_once_for_each_input(tmp_path):
    columns = [0, 400, 999, 100, 900], [0, 0, 1, 0, 0], [1, 1, 2, 3, 3], [0, 0, 0, 0, 0]
    events = es.Events.from_columns(*columns, shape=(2, 4, 3), offsets=[0, 3, 5], duration=1000, unit="us")
    write(tmp_path / "e.h5", events)
    found = real(str(tmp_path / "e.h5"), 9, 10, 0.05)
    assert (found.duration, found.unit, found.time.tolist()) == (10, "bin", [0, 9, 1])
    assert len(real(str(tmp_path / "e.h5"), 1, 10, 0.05)) == 1


RECORDED = [(0, 1), (10, 1), (20_000, 2), (65_000, 3)]  # microseconds and x


def nmnist_file(path):
    """Write the events as N-MNIST's files have them, 40 bits each: x, y, polarity, time."""
    path.write_bytes(b"".join(bytes([x, 0, t >> 16]) + (t & 0xFFFF).to_bytes(2, "big") for t, x in RECORDED))


def file_of_one_sample(path):
    """Write them as an event file of one sample."""
    time, x = np.transpose(RECORDED)
    write(path, es.Events.from_columns(time, 0 * x, 0 * x, x, shape=(2, 34, 34), duration=70_000, unit="us"))


@pytest.mark.parametrize("make", [nmnist_file, file_of_one_sample])
def test_real_events_of_a_recording_are_cut(make, tmp_path):
    make(tmp_path / "r.bin")
    found = real(str(tmp_path / "r.bin"), 9, 5, 0.01)
    assert np.diff(found.offsets).tolist() == [1, 1, 1]  # without empty windows, and the second event of a pixel
    assert found.time.tolist() == [0, 0, 2]
    assert (found.duration, found.shape) == (5, (2, 34, 34))
    assert len(real(str(tmp_path / "r.bin"), 2, 5, 0.01)) == 2


# The cost model


def rows_of_a_law(coefficients, densities=(0.01, 0.1, 1.0), held_out=False, wrong=()):
    """Return rows whose times follow a linear law exactly, or ten times as long where they are ``wrong``."""
    rng = np.random.default_rng(int(held_out))
    rows = []
    for layer, density in itertools.product(range(8), densities):
        row = {name: float(rng.integers(1, 1000)) for name in (*cost.TERMS[1:-1], "operations")}
        row |= {"study": "sparsity", "batch": 1 << (layer % 3), "backend": "cpu", "threads": 1, "kernel": "fire"}
        row |= {"held_out": held_out, "density": density, "layer": f"{layer}", "shape": "2x8x8", "dense_seconds": 1e-4}
        values = row | {"sample": 1, "call": 1 / row["batch"]}
        row["seconds"] = sum(c * values[name] for name, c in coefficients.items()) * (10 if len(rows) in wrong else 1)
        rows.append(row)
    return rows


@pytest.mark.parametrize("wrong", [(), (3, 11)])
def test_a_law_is_found_although_some_measurements_were_disturbed(wrong):
    law = {"sample": 5e-6, "additions": 4e-8, "positions": 5e-9, "listings": 1e-9, "spikes": 2e-8, "call": 2e-4}
    model = cost.fit(rows_of_a_law(law, wrong=wrong) + rows_of_a_law(law, held_out=True))
    assert model.error.rows == 24
    assert model.error.most < 0.02
    assert model.fit_error.median < 0.01
    (found,) = model.coefficients.values()
    assert found["call"] == pytest.approx(2e-4, rel=0.02)
    assert min(found.values()) >= 0


def test_the_simple_law():
    law = {"sample": 5e-6, "operations": 4e-8, "positions": 5e-9}
    model = cost.fit(rows_of_a_law(law) + rows_of_a_law(law, held_out=True), cost.SIMPLE)
    (found,) = model.coefficients.values()
    assert found == pytest.approx(law | {"call": 0}, rel=1e-6, abs=1e-12)
    assert model.error.most < 1e-6


def test_errors_are_of_layers_that_were_not_fitted():
    law = {"sample": 5e-6, "operations": 4e-8}
    others = [row | {"seconds": 2 * row["seconds"]} for row in rows_of_a_law(law, held_out=True)]
    model = cost.fit(rows_of_a_law(law) + others, cost.SIMPLE)
    assert model.fit_error.most < 1e-6
    assert model.error.median == pytest.approx(0.5)
    assert model.relative_error(others[0]) == pytest.approx(-0.5)


def test_backends_and_kernels_have_laws_of_their_own():
    slow = [row | {"backend": "reference"} for row in rows_of_a_law({"sample": 1e-3})]
    model = cost.fit(rows_of_a_law({"sample": 1e-6}) + slow, cost.SIMPLE)
    assert model.predict(slow[0]) == pytest.approx(1e-3)
    with pytest.raises(ValueError, match=r"no rows of Kind.*kernel='pool'"):
        model.predict(slow[0] | {"kernel": "pool"})


def test_what_cannot_be_fitted():
    with pytest.raises(ValueError, match="that are not held out, got none"):
        cost.fit(rows_of_a_law({"sample": 1}, held_out=True))
    with pytest.raises(ValueError, match=r"terms expects some of .*, got 'size'"):
        cost.fit(rows_of_a_law({"sample": 1}), ("size",))


def curve(*pairs):
    rows = rows_of_a_law({"sample": 1}, [density for density, _ in pairs])[: len(pairs)]
    return [row | {"seconds": r * row["dense_seconds"]} for row, (_, r) in zip(rows, pairs, strict=True)]


def test_curves_cross_where_the_line_through_their_logarithms_does():
    (found,) = cost.crossovers(curve((1.0, 100.0), (0.01, 0.01), (0.1, 0.1)))
    assert found["density"] == pytest.approx(10**-0.666666667)
    assert (found["winner"], found["layer"], found["lowest"], found["highest"]) == (None, "0", 0.01, 1.0)


@pytest.mark.parametrize(("ratio", "winner"), [(0.5, "events"), (2.0, "dense")])
def test_where_one_side_always_wins_curves_do_not_cross(ratio, winner):
    (found,) = cost.crossovers(curve((0.01, ratio), (1.0, ratio)))
    assert (found["density"], found["winner"]) == (None, winner)


# Studies


def test_rows_say_what_was_run_and_what_was_found(few):
    assert len(few) == 6
    assert [row["kernel"] for row in few[::2]] == ["fire", "pool", "settle"]
    assert [row["held_out"] for row in few[::2]] == [False, True, False]
    assert all(row["seconds"] > 0 < row["dense_seconds"] for row in few)
    assert len({row["run"] for row in few}) == 6
    first = few[0]
    assert (first["shape"], first["layer"], first["pool"], first["batch"]) == ("2x8x8", "Conv(6, kernel=3)", None, 3)
    assert first["density"] * 128 == first["events"]
    assert first["macs"] == 4 * 64 * 6 * 2 * 9
    assert (first["command"], first["environment"]["eventsnn"]) == ("by hand", es.__version__)
    assert first["clock"] == "cpu"
    assert json.loads(json.dumps(few)) == few
    assert len(cost.crossovers(few)) == 3


def test_energies_are_of_the_picojoules_given(few):
    (row, *_) = study.sparsity(replace(FEW, pj_per_operation=2, pj_per_mac=0.5, densities=FEW.densities[:1]))
    assert row["energy"] == pytest.approx((row["operations"] - row["stopped"]) * 2e-12)
    assert row["dense_energy"] == pytest.approx(row["macs"] * 0.5e-12)
    assert few[0]["dense_energy"] == pytest.approx(few[0]["macs"] * 4.6e-12)


def test_several_threads_take_wall_time():
    two = Sparsity(**{**vars(FEW), "shapes": TINY[:1], "densities": (0.5,), "threads": (2,)})
    (row,) = study.sparsity(two)
    assert (row["clock"], row["threads"]) == ("wall", 2)
    assert row["seconds"] > 0


def test_interleaved_times():
    now, calls = [0.0], []

    def work(name, seconds):
        calls.append(name)
        now[0] += seconds

    times = iter([9, 5, 4, 6, *[7] * 100])
    best = interleaved([lambda: work("a", next(times)), lambda: work("b", 2)], lambda: now[0], 1.0)
    assert best == [4, 2]
    assert calls[:6] == ["a", "b"] * 3


def test_a_study_of_real_events(tmp_path):
    write(tmp_path / "e.h5", synthetic((2, 8, 8), 0.5, 4, 3, 0))
    rows = study.sparsity(
        Sparsity(**{**vars(FEW), "shapes": TINY[:1], "densities": (), "data": str(tmp_path / "e.h5"), "kept": (1, 0.5)})
    )
    assert [row["source"] for row in rows] == ["events"] * 2
    assert rows[1]["density"] < rows[0]["density"]
    many = Sparsity(**{**vars(FEW), "shapes": TINY[:1], "densities": (), "data": str(tmp_path / "e.h5"), "kept": (1,)})
    rows = study.sparsity(replace(many, batches=(1, 3, 8, 32)))
    assert [row["batch"] for row in rows] == [1, 3]  # there are three samples, and nobody needs them thrice
    other = Sparsity(**{**vars(FEW), "shapes": TINY[2:], "data": str(tmp_path / "e.h5")})
    with pytest.raises(ValueError, match=r"expected a grid that fits a layer of the study, got \(2, 8, 8\)"):
        study.sparsity(other)


def test_a_cut_study_goes_on(tmp_path):
    out = tmp_path / "r.jsonl"

    def stop(done, total, phase):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.sparsity(FEW, out, progress=stop)
    before = results.read(out)
    assert len(before) == 4
    rows = study.sparsity(FEW, out, resume=True)
    assert rows[:4] == before  # not measured again
    assert results.read(out) == rows
    assert len(rows) == 6


def test_files_that_a_study_does_not_continue(few, tmp_path):
    out = tmp_path / "r.jsonl"
    results.write(out, few)
    before = out.read_bytes()
    with pytest.raises(ValueError, match="is there already"):
        study.sparsity(FEW, out)
    with pytest.raises(ValueError, match="of the study sparsity"):
        study.scaling(Scaling.quick(), out, resume=True)
    with pytest.raises(ValueError, match="with other settings"):
        study.sparsity(Sparsity(**{**vars(FEW), "bins": 5}), out, resume=True)
    assert out.read_bytes() == before


def test_scaling():
    rows = study.scaling(Scaling(sizes=(8, 250), maps=(), events=(), threads=(), devices=(2,), samples=3, repeats=1))
    found = [(row["axis"], row["value"], row["clock"]) for row in rows]
    assert found == [("size", 8, "cpu"), ("size", 250, "cpu"), ("devices", 2, "wall")]
    assert all(row["seconds"] > 0 for row in rows)
    assert rows[1]["memory"] > rows[0]["memory"] + (20 << 20)  # a process of its own has each
    assert rows[0]["events"] == pytest.approx(2 * 64 * 0.1, rel=0.5)


def test_what_grows_along_each_axis():
    tasks = growth._tasks(Scaling())
    found = {task.axis: task for task in tasks}
    assert [found[axis][1:5] for axis in ("size", "maps", "events")] == [
        (512, 512, 30, 0.1),
        (512, 64, 512, 0.1),
        (8000, 64, 30, 8000 / 8192),
    ]


def test_what_grows_on_a_gpu(monkeypatch):
    monkeypatch.setattr(growth, "device", lambda name: None)
    found = {task.axis: task.backend for task in growth._tasks(Scaling(backend="cuda"))}
    assert found == {"size": "cuda", "maps": "cuda", "events": "cuda", "threads": "cpu", "devices": "cuda"}
    asked = []
    monkeypatch.setattr(growth, "Network", lambda *given, **named: asked.append(named) or Network(given[0], given[1]))
    devices = next(task for task in growth._tasks(Scaling(backend="cuda")) if task.axis == "devices")
    row = growth.measured(devices._replace(value=2, size=16, samples=2, repeats=1))
    assert asked[0]["devices"] == ["cuda:0", "cuda:1"]
    assert (row["clock"], row["backend"]) == ("wall", "cuda")
    assert growth.measured(devices._replace(axis="size", size=16, repeats=1))["clock"] == "wall"
    assert asked[1]["backend"] == "cuda"


def test_a_process_that_fails_is_told():
    task = growth._tasks(Scaling())[0]
    with pytest.raises(RuntimeError, match=r"the run of size 0 failed: .*shape expects three sizes from 1"):
        growth._row(task._replace(value=0, size=0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sparsity(densities=(0.0,)), "densities expects a finite number above 0 and at most 1, got 0.0"),
        (lambda: Sparsity(networks=("digit",)), "got 'digit'; the nearest known is 'digits'"),
        (lambda: Sparsity(backends=("cup",)), "backend expects one of"),
        (lambda: Sparsity(batches=(0,)), "batches expects an integer of at least 1, got 0"),
        (lambda: LayerShape((2, 4, 4), 5, 9), r"Conv\(5, kernel=9\)"),
        (lambda: Scaling(events=(10**6,)), "events expects at most the 8192 inputs of size 64, got 1000000"),
        (lambda: Scaling(backend="gpu"), "backend expects one of .*, got 'gpu'"),
        (lambda: Scaling(repeats=0), "repeats expects an integer of at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Files of settings


def test_numbers_of_numpy_are_numbers():
    settings = Sparsity(densities=np.array([0.1, 0.5]), batches=[np.int64(2)], seed=np.int64(3))
    assert settings == Sparsity(densities=(0.1, 0.5), batches=(2,), seed=3)
    assert json.dumps([settings.densities, settings.batches, settings.seed]) == "[[0.1, 0.5], [2], 3]"
    assert Scaling(sizes=np.array([8])) == Scaling(sizes=(8,))


def test_values_of_another_kind_are_refused():
    for make, name in (
        (lambda: Sparsity(networks="digits"), "networks expects tuple or list, got 'digits'"),
        (lambda: Sparsity(densities=0.1), "densities expects tuple or list, got 0.1"),
        (lambda: Scaling(sizes=5), "sizes expects tuple or list, got 5"),
        (lambda: study.sparsity({"densities": [0.1]}), "settings expects Sparsity or None"),
        (lambda: study.scaling(Sparsity()), "settings expects Scaling or None"),
        (lambda: study.tradeoff("digits"), "settings expects Tradeoff or None, got 'digits'"),
    ):
        with pytest.raises(TypeError, match=name):
            make()


def test_settings_from_a_file(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(
        'study = "sparsity"\nnetworks = ["digits"]\ndensities = [0.1, 1]\n'
        "[[shapes]]\nshape = [2, 8, 8]\nmaps = 4\nkernel = 3\nthreshold = inf\n"
    )
    shape = LayerShape((2, 8, 8), 4, 3, threshold=math.inf)
    assert load(path) == Sparsity(networks=("digits",), densities=(0.1, 1.0), shapes=(shape,))
    path.write_text('model = "spyker_mnist"\ninhibition = ["none", 0.5]\n')
    assert load(path, "tradeoff") == Tradeoff(model="spyker_mnist", inhibition=("none", 0.5))
    assert from_dict({"study": "scaling", "sizes": [3]}) == Scaling(sizes=(3,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('study = "sparsty"', "study has the unknown name 'sparsty'; the nearest known is 'sparsity'"),
        ("", r"lacks the key 'study' \(one of sparsity, tradeoff, scaling\)"),
        ('study = "sparsity"\ndensites = [1]', "sparsity has no key 'densites'; the nearest known is 'densities'"),
        ('study = "sparsity"\n[[shapes]]\nmap = 3', r"shapes\[0\] has no key 'map'; the nearest known is 'maps'"),
        ('study = "sparsity"\ndensities = [0.1, "a"]', r"densities\[1\]: Input should be a valid number; got 'a'"),
        ('study = "sparsity"\ndensities = [2.0]', "densities expects a finite number above 0 and at most 1, got 2.0"),
        (
            'study = "sparsity"\n[[shapes]]\nshape = [2, 8, 8]\nmaps = 0\nkernel = 3',
            r"shapes\[0\]: maps expects an integer of at least 1, got 0",
        ),
        ('study = "scaling"\nsizes = [1.5]', r"sizes\[0\]: Input should be a valid integer; got 1.5"),
        ('study = "tradeoff"\nmodel = 3', "model: Input should be a valid string; got 3"),
        ("study =", "Invalid value"),
    ],
)
def test_files_that_are_no_settings(text, message, tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .*{message}"):
        load(path)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("study_*.toml")), ids=lambda path: path.stem)
def test_examples_are_settings(path):
    assert load(path) != type(load(path))()


def test_settings_of_another_study():
    with pytest.raises(ValueError, match="expected settings of the study 'scaling', found those of 'sparsity'"):
        from_dict({"study": "sparsity"}, "scaling")


def test_small_settings_keep_what_the_quick_study_leaves_open():
    found = small(Sparsity(data="x.h5", densities=(0.5,), bins=7))
    assert (found.data, found.bins) == ("x.h5", 7)
    assert found.densities == Sparsity.quick().densities
    assert small(Scaling(sizes=(9000,))) == Scaling.quick()
    assert len(Sparsity.quick().shapes) < len(GRID)


def test_the_quick_study_says_what_it_takes_instead(tmp_path, capsys):
    path = tmp_path / "settings.toml"
    path.write_text('study = "tradeoff"\ntrain = 4000\ntest = 100\nthresholds = [0.7]\nwinners = [3]\nseeds = [4]\n')
    found = study_command._settings("tradeoff", path, True, {"model": ""})
    assert (found.train, found.thresholds, found.winners) == (1000, (0.6, 1.0, 1.4), (3,))
    said = capsys.readouterr().out
    assert said.startswith("Quick: ")
    assert said.count("\n") == 1
    assert {"train 1000 instead of 4000", "thresholds 0.6, 1.0, 1.4 instead of 0.7", "seeds 0, 1 instead of 4"} <= set(
        said.removeprefix("Quick: ").rstrip().split("; ")
    )
    assert "test" not in said  # as it was
    assert "winners" not in said
    assert study_command._settings("tradeoff", None, True, {}) == Tradeoff.quick()
    assert study_command._settings("tradeoff", path, False, {"data": "digits"}).train == 4000
    assert capsys.readouterr().out == ""


# The command


TOML = """
study = "sparsity"
networks = []
densities = [0.3]
batches = [2]
seconds = 1e-6
[[shapes]]
shape = [2, 8, 8]
maps = 4
kernel = 3
"""


def test_the_command_runs_and_resumes(tmp_path, call):
    settings, out = tmp_path / "s.toml", tmp_path / "r.jsonl"
    settings.write_text(TOML)
    code, said, _ = call("study", "sparsity", settings, "-o", out)
    assert code == 0
    assert f"Written: {out}, 1 runs" in said
    assert "Cost model of call, sample, operations, positions: off by" in said
    (row,) = results.read(out)
    assert row["command"] == f"eventsnn study sparsity {settings} --out {out}"
    code, _, err = call("study", "sparsity", settings, "-o", out)
    assert (code, "--resume" in err) == (1, True)
    assert call("study", "sparsity", settings, "-o", out, "--resume")[0] == 0
    assert results.read(out) == [row]


def test_the_command_refuses_before_it_measures(tmp_path, call):
    settings = tmp_path / "s.toml"
    settings.write_text(TOML.replace("batches", "batch"))
    out = tmp_path / "r.jsonl"
    code, _, err = call("study", "sparsity", settings, "-o", out)
    assert code == 1
    assert "sparsity has no key 'batch'; the nearest known is 'batches'" in err
    settings.write_text(TOML)
    code, _, err = call("study", "sparsity", settings, "-o", out, "--report", tmp_path / "none" / "r.html")
    assert code == 1
    assert "which is no folder" in err
    assert not out.exists()
    for page in (out, settings):
        code, _, err = call("study", "sparsity", settings, "-o", out, "--report", page)
        assert (code, out.exists()) == (2, False)
        assert "--report expects a file of its own" in err
    assert settings.read_text() == TOML


def test_a_study_of_nothing_is_refused(tmp_path):
    for work, settings in ((study.sparsity, Sparsity(densities=())), (study.scaling, Scaling((), (), (), (), ()))):
        with pytest.raises(ValueError, match="expects at least one run, its settings leave none"):
            work(settings, tmp_path / "r.jsonl")
    assert not [*tmp_path.iterdir()]


def test_the_command_tells_curves_apart():
    rows = [
        row
        | {
            "source": "synthetic",
            "network": "digits",
            "pool": None,
            "threads": threads,
            "dense": "scipy",
            "kernel": "fire",
        }
        for threads in (1, 2)
        for row in curve((0.01, 0.5), (1.0, 2.0 * threads))
    ]
    lines = study_command._about_sparsity([row | {"held_out": True} for row in rows])
    assert [line.split(" at a time")[1].split(":")[0] for line in lines] == [", threads", ", threads"]
    assert len({*lines}) == 2


def test_the_command_makes_a_report(tmp_path, call, monkeypatch):
    settings, out, page = (tmp_path / name for name in ("s.toml", "r.jsonl", "r.html"))
    settings.write_text(TOML)

    def missing():
        raise ModuleNotFoundError("a report expects something")

    monkeypatch.setattr(study.report, "check", missing)
    code, _, err = call("study", "sparsity", settings, "-o", out, "--report", page)
    assert (code, out.exists()) == (2, False)
    assert "--report: a report expects something" in err
    reports = []
    monkeypatch.setattr(study.report, "check", lambda: None)
    monkeypatch.setattr(study.report, "report", lambda *given, **named: reports.append((given, named)))
    code, said, _ = call("study", "sparsity", settings, "-o", out, "--report", page)
    command = f"eventsnn study sparsity {settings} --out {out} --report {page}"
    assert (code, reports) == (0, [((results.read(out), page), {"command": command})])
    assert f"Written: {page}" in said


def test_an_interrupt_keeps_what_is_done(tmp_path, call, monkeypatch):
    settings, out = tmp_path / "s.toml", tmp_path / "r.jsonl"
    settings.write_text(TOML.replace("[0.3]", "[0.3, 0.6]"))
    measured = study.crossover._measured
    runs = iter([measured])

    def once(*arguments):
        work = next(runs, None)
        if work is None:
            raise KeyboardInterrupt
        return work(*arguments)

    monkeypatch.setattr(study.crossover, "_measured", once)
    code, _, err = call("study", "sparsity", settings, "-o", out)
    assert (code, "has what is done, --resume goes on" in err) == (130, True)
    assert len(results.read(out)) == 1


@pytest.mark.parametrize("name", ["sparsity", "tradeoff", "scaling"])
def test_help_has_an_example_that_is_correct(name, call):
    code, said, _ = call("study", name, "--help")
    assert code == 0
    example = re.search(r"Example: eventsnn study (.*)", said)[1].split()
    command = typer.main.get_command(cli.app).commands["study"].commands[name]
    command.make_context(name, example[1:])  # else it raises
    assert name in call("study")[1]


@pytest.mark.slow
def test_the_cost_model_holds_for_published_layers(tmp_path):
    rows = study.sparsity(out=tmp_path / "r.jsonl")
    assert cost.fit(rows).error.median < 0.25
    assert {found["network"] for found in cost.crossovers(rows)} >= {"digits", "spyker_mnist"}
