"""The benchmark against other programs measures and compares what it should, without any of them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import record  # noqa: E402
from benchmarks.peers import dense, spyker, spyketorch  # noqa: E402
from benchmarks.peers import main as program  # noqa: E402
from benchmarks.peers.agreement import compare, sentence  # noqa: E402
from benchmarks.peers.measuring import measure  # noqa: E402
from benchmarks.peers.ours import Ours  # noqa: E402
from benchmarks.peers.tasks import (  # noqa: E402
    Absent,
    Job,
    Lesson,
    NotOffered,
    Stack,
    Task,
    cumulative,
    latency_of_waves,
    winners_array,
)
from benchmarks.peers.yardstick import loop  # noqa: E402
from eventsnn import STDP, WTA, Conv, Events  # noqa: E402


class Shy:
    """Ourselves under another name, with the spikes of map 0 left out; does not learn."""

    name, version, threads = "Shy", "1", 1

    def prepare(self, task):
        if task.lesson is not None:
            raise NotOffered("inference only")
        job = Ours().prepare(task)

        def answer(spikes):
            latency = job.answer(spikes)
            latency[:, 0] = -1
            return latency

        return Job(job.work, answer)


@pytest.fixture
def events():
    rng = np.random.default_rng(0)
    latency = np.where(rng.random((4, 2, 6, 6)) < 0.5, rng.integers(0, 5, (4, 2, 6, 6)), -1)
    return Events.from_latency(latency, duration=5)


@pytest.fixture
def layer():
    return Conv(3, kernel=3, threshold=2.0)


@pytest.fixture
def weights():
    return np.random.default_rng(1).uniform(0.3, 0.9, (3, 2, 3, 3)).astype(np.float32)


def test_programs_take_turns():
    order = []

    def job(name):
        def work(state):
            order.append((name, state))
            yield np.zeros(1)

        return Job(work, lambda piece: piece, setup=lambda: "fresh", note=name)

    slow = {name: job(name) for name in "ab"}
    answers = {}
    turns = measure(slow, 2, answers.__setitem__)
    passes = {name: turns[name].passes for name in "ab"}
    beginning = ["a", "a", "b", "b"]  # an answer and a trial each
    rounds = (["a"] * passes["a"] + ["b"] * passes["b"]) * 2
    assert [name for name, _ in order] == beginning + rounds
    assert all(state == "fresh" for _, state in order)
    assert all(len(turns[name].wall) == len(turns[name].cpu) == 2 for name in "ab")
    assert set(answers) == {"a", "b"}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_memory_is_that_of_one_program():
    def job(mebibytes):
        def work(_):
            yield np.ones((mebibytes, 1 << 18), np.float32).sum(keepdims=True)

        return Job(work, lambda piece: piece[0])

    turns = measure({"large": job(96), "small": job(1)}, 1)
    assert 0.09 < turns["large"].memory_growth_gib <= turns["large"].peak_memory_gib
    assert turns["small"].memory_growth_gib < 0.05


def test_spikes_agree_where_they_are_equal():
    ours = np.array([[0, 3, -1, -1]])
    assert compare("spikes", ours, ours)["differ"] == 0
    assert compare("spikes", ours, np.array([[0, 4, 2, -1]])) == {"what": "spikes", "differ": 2, "of": 3}
    assert sentence(compare("spikes", ours, ours)) == "all 2 spikes equal"


def test_winners_agree_place_by_place():
    ours = winners_array([[(0, 1, 1), (1, 2, 2)], [(2, 0, 0)]], k=2)
    theirs = winners_array([[(0, 1, 1), (1, 2, 2)], [(2, 0, 1)]], k=2)
    assert compare("winners", ours, theirs) == {"what": "winners", "differ": 1, "of": 3, "first_sample": 1}


def test_answers_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(1,\) and \(2,\)"):
        compare("decisions", np.zeros(1), np.zeros(2))


def test_waves_are_read_as_they_are_written(events):
    assert np.array_equal(latency_of_waves(cumulative(events)), events.to_latency())


def test_an_input_that_fires_twice_counts_twice():
    twice = Events.from_columns([0, 2], [0, 0], [0, 0], [0, 0], shape=(1, 1, 1), duration=4)
    assert cumulative(twice).ravel().tolist() == [1, 1, 2, 2]


PROGRAMS = [
    dense.Dense("", None),
    spyketorch.SpykeTorch("", None, None, None, None),
    spyker.Spyker("", None, sparse=False),
    spyker.Spyker("", None, sparse=True),
]


@pytest.mark.parametrize("peer", PROGRAMS, ids=lambda peer: peer.name)
def test_microseconds_are_not_made_a_dense_axis_even_where_each_input_fires_once(peer, layer, weights):
    """As of neurons that a camera's events made fire: the array alone would fill all memory."""
    events = Events.from_columns([0, 319_999], [0, 1], [2, 3], [2, 3], shape=(2, 6, 6), duration=320_000, unit="us")
    with pytest.raises(NotOffered, match="one step for each microsecond"):
        peer.prepare(Task("layer 2, microseconds", Stack((layer,), {0: weights}), events))


def test_a_task_is_measured_and_compared(events, layer, weights, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.peers.measuring.LEAST_SECONDS", 0.0)
    task = Task("layer 1", Stack((layer,), {0: weights}), events, additions=1000.0)
    lines = []
    program.run(task, [Ours(1), Shy(), Ours(2)], 2, lines.append)
    assert [line["peer"] for line in lines] == ["eventsnn", "Shy"]
    ours, shy = lines
    latency = Ours().prepare(task).run()
    assert shy["agreement"] == {"what": "spikes", "differ": (latency[:, 0] >= 0).sum(), "of": (latency >= 0).sum()}
    assert shy["agreement"]["differ"] > 0
    assert len(ours["cpu_seconds"]) == len(shy["wall_seconds"]) == 2
    assert ours["additions_per_second"] == pytest.approx(250 * ours["images_per_second"], rel=1e-4)
    assert ours["share_of_peak"] == pytest.approx(
        ours["additions_per_second"] / ours["vector_adds_per_second"], rel=1e-4
    )
    assert "Shy" in capsys.readouterr().out


def test_two_threads_are_measured_alone_and_agree(events, layer, weights):
    lines = []
    task = Task("all layers, many images", Stack((layer,), {0: weights}), events, alone=True)
    program.run(task, [Ours(1), Shy(), Ours(2)], 1, lines.append)
    assert [(line["peer"], line["threads"]) for line in lines] == [("eventsnn", 1), ("eventsnn, 2 threads", 2)]
    assert lines[1]["agreement"]["differ"] == 0
    one, two = (line["loop_wall_seconds"] for line in lines)  # what two threads can gain here, in the same turns
    assert len(one) == len(two) == len(lines[0]["wall_seconds"]) == 3


def spun(rounds):
    found = 0
    for x in range(1, 9):
        for i in range(rounds):
            x = ((x ^ x << 1) + i) % 2**64
        found ^= x
    return found


def test_the_loop_is_the_same_work_for_one_thread_and_for_two(monkeypatch):
    monkeypatch.setattr("benchmarks.peers.yardstick._ROUNDS", 1000)
    one, two = loop(1).run(), loop(2).run()
    assert one.tolist() == two.tolist() == [spun(1000)] * 2


def test_what_a_program_does_not_offer_is_recorded(events, layer, weights):
    lines = []
    task = Task("learning", events=events, lesson=Lesson(layer, weights, STDP(0.1, -0.1), WTA(2, radius=1)))
    program.run(task, [Ours(1), Shy()], 1, lines.append)
    assert {"stage": "learning", "peer": "Shy", "not_offered": "inference only"} in lines
    assert [line["peer"] for line in lines if "cpu_seconds" in line] == ["eventsnn"]


def test_learning_begins_anew_in_each_pass(events, layer, weights):
    task = Task("learning", events=events, lesson=Lesson(layer, weights, STDP(0.5, -0.5), WTA(2, radius=1)))
    job = Ours().prepare(task)
    assert np.array_equal(job.run(), job.run())
    assert task.rounded().lesson.weights.ravel()[0] * 256 % 1 == 0


def test_an_absent_program_is_recorded_as_absent(tmp_path, capsys):
    lines = []
    arguments = program.parse(["--peers", "spyketorch", "--spyketorch", str(tmp_path)])
    peers = program.present(arguments, lines.append)
    assert [peer.name for peer in peers] == ["eventsnn", "eventsnn, 2 threads"]
    assert lines[0]["peer"] == "spyketorch"
    assert "no clone" in lines[0]["absent"]
    with pytest.raises(Absent, match="SpykeTorch"):
        spyketorch.load(tmp_path)


def test_the_whole_command_without_data_or_peers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    options = ["--data", str(tmp_path), "--scratch", str(tmp_path), "--images", "2", "--repeats", "1"]
    program.main([*options, "--peers", "--workloads", "faces", "mozafari2019_mnist, untrained"])
    assert "faces: no folder caltech" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "peers.jsonl").read_text().splitlines()]
    assert {"layer 1", "layer 3", "learning layer 2", "all layers"} <= {line["stage"] for line in lines}
    measured = [line for line in lines if "cpu_seconds" in line]
    assert all(line["vector_adds_per_second"] > 0 and line["commit"] and line["processor"] for line in measured)
    assert all(line["additions_per_second"] > 0 and line["share_of_peak"] > 0 for line in measured)
    assert all(line["images_per_second"] > 0 and line["peak_memory_gib"] >= 0 for line in measured)
    assert "scikit-learn" in lines[0]["samples_are"]
