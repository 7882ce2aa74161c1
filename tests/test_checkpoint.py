"""Checkpoints: a training that was cut ends with the bits of one that was not, and what does not fit is refused."""

import errno
import json
import os
from dataclasses import replace

import h5py
import numpy as np
import pytest
from doubles import InBatches

from eventsnn import store
from eventsnn.checkpoint import Checkpoint, fingerprint
from eventsnn.encode import ImageEncoder, Linear, OnOff
from eventsnn.events import Events
from eventsnn.layers import Conv, Dense, Normal, Pool, inf
from eventsnn.models import Model, Step
from eventsnn.network import Network
from eventsnn.plasticity import (
    RSTDP,
    STDP,
    WTA,
    Adaptive,
    Annealing,
    Competition,
    Custom,
    Doubling,
    Suppression,
    ThresholdAdaptation,
)
from eventsnn.train import fit

SHAPE = (2, 6, 6)
CONV = Conv(6, (3, 2), stride=(1, 2), padding=(1, 0), threshold=2.4, init=Normal(0.6, 0.2))
BELOW = (Conv(5, 3, padding=1, threshold=2.5), Pool(2), replace(CONV, threshold=1.5))
RULE = STDP(0.05, -0.04)
NEVER = float("inf")


def random_events(n_samples=23, seed=0, duration=9):
    rng = np.random.default_rng(seed)
    latency = rng.integers(-duration // 2, duration, (n_samples, *SHAPE)).clip(-1)
    return Events.from_latency(latency, duration=duration, labels=rng.integers(0, 3, n_samples))


def own_rule(w, dt):
    return w + 0.02 if dt >= 0 else w - 0.03


def own_score(net):
    return -abs(float(net.weights[0].mean()) - 0.68)


# Each with the layers, and the index of the one that learns
TRAININGS = {
    "doubling": ((CONV,), 0, {"rule": RULE, "schedule": Doubling(every=7, limit=0.3), "epochs": 2}),
    "adaptive by samples": (
        (Dense(6, threshold=inf),),
        0,
        {"rule": RSTDP((0.05, -0.04), (-0.04, 0.05), adaptive=Adaptive(every=8)), "epochs": 2},
    ),
    "adaptive by epochs": (
        (Dense(6, threshold=inf),),
        0,
        {"rule": RSTDP((0.05, -0.04), (-0.04, 0.05), adaptive=Adaptive(every=None)), "epochs": 3},
    ),
    "dropout, shuffle": ((CONV,), 0, {"rule": RULE, "dropout": 0.4, "shuffle": True, "epochs": 3, "seed": 4}),
    "suppression": ((CONV,), 0, {"rule": RULE, "suppression": Suppression(1.2, every=9), "epochs": 2}),
    "adaptation, patches": (
        (CONV,),
        0,
        {"rule": RULE, "adaptation": ThresholdAdaptation(0.3, 0.6, floor=1.5), "patches": True,
         "schedule": Annealing(0.8), "epochs": 2},
    ),
    "mini-batches": ((CONV,), 0, {"rule": RULE, "mini_batch": 4, "schedule": Doubling(every=7, limit=1), "epochs": 2}),
    "frozen layers": (BELOW, 2, {"rule": RULE, "epochs": 2, "inhibit_input": True}),
    "read again in each epoch": (BELOW, 2, {"rule": RULE, "epochs": 2, "memory": 0, "batch_size": 4}),
    "from a temporary file": (
        BELOW,
        2,
        {"rule": RULE, "epochs": 2, "memory": 0, "batch_size": 4, "shuffle": True, "mini_batch": 3},
    ),
    "own rule": ((CONV,), 0, {"rule": Custom(own_rule), "epochs": 2}),
    "judged on validation data": (
        (CONV, Dense(6, threshold=inf)),
        1,
        {"rule": RSTDP((0.05, -0.04), (-0.04, 0.05), adaptive=None), "epochs": 6,
         "validation": random_events(17, seed=8)},
    ),
    "judged by a score": (
        (CONV,),
        0,
        {"rule": RULE, "adaptation": ThresholdAdaptation(0.3, 0.6, floor=1.5), "epochs": 5, "score": own_score},
    ),
    "until told to end": (
        (CONV,),
        0,
        {"rule": RULE, "epochs": 5, "score": own_score, "on_epoch": lambda epoch: epoch.score < -0.1},
    ),
    "until converged": ((CONV,), 0, {"rule": STDP(0.5, -0.5), "stop_below": 0.12, "epochs": 9}),
}  # fmt: skip


class KilledError(BaseException):
    pass


def train(name, checkpoint=None, events=None, **changed):
    """Return the network and the history of one of the trainings."""
    layers, layer, fields = TRAININGS[name]
    net = Network(layers, SHAPE, seed=changed.pop("net_seed", 0), backend="cpu")
    arguments = {"competition": WTA(2, radius=1) if layers[0] is CONV else None} | fields | changed
    history = fit(net, events or random_events(), layer=layer, checkpoint=checkpoint, **arguments)
    return net, history


def killed_after(writes, monkeypatch, work):
    """Do ``work`` until so many checkpoints were written; return whether it was cut."""
    left = [writes]

    def write(*arguments):
        if not left[0]:
            raise KilledError
        left[0] -= 1
        store_write(*arguments)

    store_write = store.write
    with monkeypatch.context() as patch:
        patch.setattr(store, "write", write)
        try:
            work()
        except KilledError:
            return True
    return False


def told(history):
    return [{k: v for k, v in e.items() if "second" not in k} for e in history.to_dict()["epochs"]]


def assert_same(found, expected):
    for arrays in ("weights", "thresholds"):
        for a, b in zip(*(getattr(net, arrays).values() for net in (found[0], expected[0])), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(found[0].classes, expected[0].classes)
    np.testing.assert_array_equal(found[1].curve, expected[1].curve)
    assert told(found[1]) == told(expected[1])
    assert found[1].converged == expected[1].converged
    assert found[1].best == expected[1].best
    assert list(found[1].snapshots) == list(expected[1].snapshots)
    for a, b in zip(found[1].snapshots.values(), expected[1].snapshots.values(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", TRAININGS)
def test_a_cut_training_ends_with_the_bits_of_a_whole_one(name, tmp_path, monkeypatch):
    expected = train(name)
    start = Network(*TRAININGS[name][0:1], SHAPE, backend="cpu")
    layer = TRAININGS[name][1]
    assert not np.array_equal(expected[0].weights[layer], start.weights[layer])
    cuts = 0
    for writes in (1, 2, 3, 5, 7, 12):
        checkpoint = Checkpoint(tmp_path / f"{writes}.h5", every_seconds=NEVER, every_samples=4)
        if killed_after(writes, monkeypatch, lambda: train(name, checkpoint)):  # noqa: B023
            cuts += 1
        for _ in range(2):  # continued, and ended before
            assert_same(train(name, checkpoint), expected)
    assert cuts > 3


def test_a_training_that_is_cut_again_and_again(tmp_path, monkeypatch):
    name, checkpoint, cuts = "frozen layers", Checkpoint(tmp_path / "a.h5", every_seconds=0), 0
    while killed_after(1, monkeypatch, lambda: train(name, replace(checkpoint, every_samples=1 + cuts % 3))):  # noqa: B023
        cuts += 1
    assert cuts > 10
    assert_same(train(name, checkpoint), train(name))


def test_where_data_come_from_and_memory_do_not_matter(tmp_path, monkeypatch):
    name, checkpoint = "frozen layers", Checkpoint(tmp_path / "a.h5", every_samples=5)
    assert killed_after(3, monkeypatch, lambda: train(name, checkpoint, memory=0, batch_size=3))
    assert_same(train(name, checkpoint, events=InBatches(random_events())), train(name))


@pytest.mark.parametrize(("writes", "before"), [(4, 0), (6, 1)])
def test_on_epoch_is_not_called_again_for_epochs_that_are_kept(writes, before, tmp_path, monkeypatch):
    checkpoint, seen = Checkpoint(tmp_path / "a.h5", every_seconds=0), []
    assert killed_after(writes, monkeypatch, lambda: train("doubling", checkpoint, on_epoch=seen.append))
    assert len(seen) == before
    train("doubling", checkpoint, on_epoch=seen.append)
    assert len(seen) == 2


class Counter:
    def __init__(self):
        self.counts = np.zeros(2, np.int64)

    def see(self, epoch):
        self.counts += (1, epoch.silent)

    def state(self):
        return {"counts": self.counts}

    def set_state(self, arrays):
        self.counts = arrays["counts"].copy()


@pytest.mark.parametrize("writes", [1, 4, 5, 6, 8])
def test_what_else_changes_is_kept(writes, tmp_path, monkeypatch):
    whole, cut, again = Counter(), Counter(), Counter()
    train("suppression", epochs=4, on_epoch=whole.see)
    checkpoint = Checkpoint(tmp_path / "a.h5", every_seconds=0, extra=cut)
    assert killed_after(writes, monkeypatch, lambda: train("suppression", checkpoint, epochs=4, on_epoch=cut.see))
    train("suppression", replace(checkpoint, extra=again), epochs=4, on_epoch=again.see)
    assert again.counts.tolist() == whole.counts.tolist()
    assert whole.counts[0] == 4


def test_the_clock_decides_when(tmp_path, monkeypatch):
    def written(checkpoint):
        writes = []
        with monkeypatch.context() as patch:
            patch.setattr(store, "write", lambda *_: writes.append(None))
            train("doubling", checkpoint)
        return len(writes)

    assert written(Checkpoint(tmp_path / "a.h5", every_seconds=3600)) == 2  # the first and the last
    assert written(Checkpoint(tmp_path / "a.h5", every_seconds=0)) > 8
    assert written(Checkpoint(tmp_path / "a.h5", NEVER, every_samples=20)) == 2 + 2


# Models


def model_and_data():
    layers = (Conv(4, 3, padding=1, threshold=2.5), Pool(2), Dense(6, threshold=inf))
    reward = RSTDP((0.05, -0.04), (-0.04, 0.05), adaptive=Adaptive(every=8))
    steps = (Step(0, RULE, WTA(2, 1), epochs=2, dropout=0.2), Step(2, reward, epochs=4))
    encoder = ImageEncoder((OnOff(),), Linear(9))
    return Model("small", encoder, (6, 6), layers, steps), random_events(30), random_events(17, seed=8)


@pytest.mark.parametrize("writes", [1, 4, 8, 12, 16, 20])
def test_a_model_continues_with_the_epoch_that_was_best(writes, tmp_path, monkeypatch):
    model, data, held_out = model_and_data()

    def work(checkpoint=None):
        return model.train(data, validation=held_out, seed=3, backend="cpu", checkpoint=checkpoint)

    expected, checkpoint = work(), Checkpoint(tmp_path / "kept", every_seconds=NEVER, every_samples=7)
    assert killed_after(writes, monkeypatch, lambda: work(checkpoint))
    for _ in range(2):
        found = work(checkpoint)
        assert [record.validation for record in found.records] == [record.validation for record in expected.records]
        for a, b in zip(found.records, expected.records, strict=True):
            assert_same((found.network, a), (expected.network, b))
    assert len(set(expected.records[1].validation)) > 1
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["step-1.h5", "step-2.h5"]


def test_held_out_data_count(tmp_path):
    model, data, held_out = model_and_data()
    checkpoint = Checkpoint(tmp_path / "kept")
    model.train(data, validation=held_out, checkpoint=checkpoint)
    with pytest.raises(ValueError, match=r"step-1\.h5: a checkpoint of a training that began with other data"):
        model.train(data, validation=held_out[:-1], checkpoint=checkpoint)
    with pytest.raises(ValueError, match="expects no extra"):
        model.train(data, checkpoint=replace(checkpoint, extra=Counter()))


# Refusals


@pytest.fixture
def cut(tmp_path, monkeypatch):
    """Return the checkpoint of a training that was cut."""
    checkpoint = Checkpoint(tmp_path / "a.h5", every_seconds=NEVER, every_samples=10)
    assert killed_after(2, monkeypatch, lambda: train("doubling", checkpoint))
    return checkpoint


OTHERS = {
    "seed 0, this one has 1": {"seed": 1},
    "epochs 2, this one has 3": {"epochs": 3},
    "dropout 0.0, this one has 0.5": {"dropout": 0.5},
    r"rule STDP\(a_plus=0.05, .*, this one has STDP\(a_plus=0.06, ": {"rule": STDP(0.06, -0.04)},
    r"competition WTA\(k=2, .*, this one has WTA\(k=3": {"competition": WTA(3)},
    "score None, this one has own_score": {"score": own_score},
    "select True, this one has False": {"select": False},
    "rule STDP.*this one has Custom.*own_rule": {"rule": Custom(own_rule), "schedule": None},
    "began with other data": {"events": random_events(seed=1)},
    "began with another network": {"net_seed": 1},
}


@pytest.mark.parametrize("message", OTHERS)
def test_a_checkpoint_of_another_training_is_refused(message, cut):
    before = cut.path.read_bytes()
    with pytest.raises(ValueError, match=rf"a\.h5: .*{message}"):
        train("doubling", cut, **OTHERS[message])
    assert cut.path.read_bytes() == before


RATE = 0.02


def by_global(w, dt):
    return w + RATE if dt >= 0 else w - RATE


def by_closure(rate):
    return lambda w, dt: w + rate


def by_default(rate):
    def rule(w, dt):
        return step(w)

    def step(w, by=rate):
        return w + by

    return rule


def latest(margin):
    return Competition(lambda spikes: [spikes.n_events - margin] if spikes.n_events else [])


def own_rules(rate, monkeypatch):
    """Return what differs by nothing but a number that functions take from outside, with that number."""
    monkeypatch.setitem(globals(), "RATE", rate)
    rules = {f.__name__: {"rule": Custom(f)} for f in (by_global,)}
    rules |= {f.__name__: {"rule": Custom(f(rate))} for f in (by_closure, by_default)}
    return rules | {
        "competition": {"competition": latest(1 if rate == 0.02 else 2)},
        "score": {"score": lambda net: rate},
    }


@pytest.mark.parametrize("which", ["by_global", "by_closure", "by_default", "competition", "score"])
def test_a_function_is_its_code_and_what_it_takes_from_outside(which, tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "a.h5")
    train("own rule", checkpoint, **own_rules(0.02, monkeypatch)[which])
    before = checkpoint.path.read_bytes()
    train("own rule", checkpoint, **own_rules(0.02, monkeypatch)[which])
    other = own_rules(0.03, monkeypatch)[which]
    with pytest.raises(ValueError, match=rf"a checkpoint of a training with {next(iter(other))} .*, this one has"):
        train("own rule", checkpoint, **other)
    assert checkpoint.path.read_bytes() == before


def test_a_function_that_cannot_be_told_from_others_has_no_checkpoint(tmp_path):
    def chance(spikes):
        return [rng.integers(spikes.n_events)] if spikes.n_events else []

    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"checkpoint expects .* got one that cannot .*: chance takes rng\.integers"):
        train("own rule", Checkpoint(tmp_path / "a.h5"), competition=Competition(chance))
    assert list(tmp_path.iterdir()) == []
    _, history = train("own rule", competition=Competition(chance))
    assert len(history.epochs) == 2


def test_a_checkpoint_judged_on_other_data_is_refused(tmp_path):
    checkpoint = Checkpoint(tmp_path / "a.h5")
    train("judged on validation data", checkpoint)
    for other, message in (
        (random_events(17, seed=9), "began with other data"),
        (None, "validation True, this one has False"),
    ):
        with pytest.raises(ValueError, match=message):
            train("judged on validation data", checkpoint, validation=other)


def test_a_refused_checkpoint_changes_nothing(cut):
    def damage(file):
        del file["thresholds"]
        file.create_dataset("thresholds", data=np.ones(2, np.float32), chunks=(2,))

    net = Network((CONV,), SHAPE, backend="reference")
    before = net.weights[0]
    with h5py.File(cut.path, "r+") as file:
        damage(file)
        meta = json.loads(file["meta"][()].tobytes())
        meta["arrays"]["thresholds"] = ["<f4", [2]]
        del file["meta"]
        file.create_dataset("meta", data=np.frombuffer(json.dumps(meta).encode(), np.uint8), chunks=(8,))
    fields = TRAININGS["doubling"][2]
    with pytest.raises(ValueError, match="'thresholds' expects float32 of shape"):
        fit(net, random_events(), layer=0, competition=WTA(2, radius=1), checkpoint=cut, **fields)
    np.testing.assert_array_equal(net.weights[0], before)


def edited(path, changes):
    """Change what a checkpoint holds, as whoever knows its form can."""
    meta, arrays = store.read(path, ("eventsnn-checkpoint", 1))
    changes(meta["values"], arrays)
    store.write(path, ("eventsnn-checkpoint", 1), meta, arrays)


def put(name, at, number):
    def change(values, arrays):
        arrays[name][at] = number

    return change


def say(**changed):
    return lambda values, arrays: values.update(changed)


def say_of_first(**changed):
    return lambda values, arrays: values["epochs"][0].update(changed)


IMPOSSIBLE = {
    "23 to 46 presentations, found 1000000000": say(presented=10**9),
    "23 to 46 presentations, found 22": say(presented=22),
    "at most 2 epochs, found 5": lambda values, _: values.update(epochs=values["epochs"] * 5),
    r"epochs of 23 samples, found \[22\]": say_of_first(presented=22),
    "winners of 0 or more": say_of_first(winners=[-1] * 6),
    "converged False, found True": say(converged=True, presented=23),
    "hit from 0 to 1, found 1.5": say(hit=1.5),
    "since of 0 or more, found -1": say(since=-1),
    "wins of 0 or more": put("wins", 0, -5),
    r"weights from .* to .*, found .* to 1.*e\+30": put("weights", (1, 0, 2, 1), 1e30),
    "weights from .* found nan": put("weights", (1, 0, 2, 1), np.nan),
    "thresholds that do not change": put("thresholds", 0, 1),
    "convergence from 0 to 0.25, found .* to 7": put("curve", (0, 1), 7),
    "a curve from 0 to at most": put("curve", (0, 0), 1),
    "snapshots from 0 up to .*1000000": put("moments", 0, 10**6),
    r"snapshots from 0 up to .*\[-5": put("moments", 0, -5),
    "finite weights in snapshots": put("snapshots", (0, 0, 0, 0, 0), np.nan),
    "stopped or not, found 1.5": say(stopped=1.5),
    r"the highest score of \[-0.*\], found 9": say(highest=9.0),
    r"best_weights from .* to .*, found .* to 1.*e\+30": put("best_weights", (1, 0, 2, 1), 1e30),
}


@pytest.mark.parametrize("message", IMPOSSIBLE)
def test_a_state_that_cannot_be_is_refused(message, tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "a.h5", NEVER, every_samples=10)
    assert killed_after(5, monkeypatch, lambda: train("doubling", checkpoint, score=own_score))
    net, fields = Network((CONV,), SHAPE, backend="reference"), TRAININGS["doubling"][2] | {"score": own_score}
    initial = net.weights[0]
    edited(checkpoint.path, IMPOSSIBLE[message])
    with pytest.raises(ValueError, match=rf"a\.h5: the state of a training that cannot be: {message}"):
        fit(net, random_events(), layer=0, competition=WTA(2, radius=1), checkpoint=checkpoint, **fields)
    np.testing.assert_array_equal(net.weights[0], initial)


def newer(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 99


def other_kind(path):
    Network((CONV,), SHAPE, backend="reference").save(path)


def flip(path):
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        at = file["weights"].id.get_chunk_info(0).byte_offset
    content[at + 5] ^= 0xFF
    path.write_bytes(content)


DAMAGES = {
    "format_version 99 is newer": newer,
    "format expects 'eventsnn-checkpoint'": other_kind,
    "not a file that eventsnn can read": flip,
    "truncated file|not a file": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "not a file that eventsnn": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_broken_checkpoint_is_refused(message, cut):
    DAMAGES[message](cut.path)
    before = cut.path.read_bytes()
    with pytest.raises(ValueError, match=rf"a\.h5: .*({message})"):
        train("doubling", cut)
    assert cut.path.read_bytes() == before


def test_intervals_make_sense():
    with pytest.raises(ValueError, match="every_seconds expects 0 or more, got -1"):
        Checkpoint("a.h5", every_seconds=-1)
    with pytest.raises(ValueError, match="every_samples expects at least 1, got 0"):
        Checkpoint("a.h5", every_samples=0)


def test_fingerprints():
    events = random_events()
    assert fingerprint(events) == fingerprint(InBatches(events))
    changed = replace(events, labels=None), replace(events, duration=10), events[:-1], random_events(seed=1)
    assert len({fingerprint(e) for e in (events, *changed)}) == 5


# Writing fails


def full_disk(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_loses_nothing(cut, monkeypatch):
    before = cut.path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match=r"No space left on device: .*a\.h5"):
            train("doubling", cut)
    assert cut.path.read_bytes() == before
    assert list(cut.path.parent.iterdir()) == [cut.path]
    assert_same(train("doubling", cut), train("doubling"))


def test_a_place_that_cannot_be_written_is_known_before_the_work(tmp_path):
    presented = []
    with pytest.raises(FileNotFoundError, match=r"absent.a\.h5"):
        train("doubling", Checkpoint(tmp_path / "absent" / "a.h5"), progress=lambda *a: presented.append(a))
    assert not presented


@pytest.mark.parametrize("resumed", [True, False])
def test_what_a_kill_left_is_removed(resumed, cut):
    left, other = (cut.path.with_name(f".{name}.h5.0123abcd.tmp") for name in "ab")
    left.write_bytes(b"half")
    other.write_bytes(b"")
    if not resumed:
        cut.path.unlink()
    train("doubling", cut)
    assert not left.exists()
    assert other.exists()


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "b.h5", tmp_path / "a.h5"
    link.symlink_to(target)
    expected = train("doubling", Checkpoint(link, every_seconds=0))
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.h5", "b.h5", "elsewhere"]
    assert_same(train("doubling", Checkpoint(target), progress=pytest.fail), expected)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "kept").mkdir()
    with pytest.raises(ValueError, match=r"kept: the checkpoint expects a file, this is a folder"):
        train("doubling", Checkpoint(tmp_path / "kept"))
    assert os.listdir(tmp_path) == ["kept"]
