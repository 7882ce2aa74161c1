"""Threads that share what goes through a network: each carries some samples through all layers."""

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

import eventsnn as es
from eventsnn import Conv, Events, Network, Pool
from eventsnn.backends.cpu import CpuBackend
from eventsnn.events import replace_fields
from eventsnn.study import profile
from eventsnn.threads import each

SHAPE = (2, 9, 8)
LAYERS = [Conv(5, 3, threshold=3, padding=1), Pool(2), Conv(6, (4, 3), threshold=es.inf)]


def stimuli(n_samples, seed=0):
    """Return samples of very different numbers of spikes."""
    rng = np.random.default_rng(seed)
    latency = rng.integers(0, 6, (n_samples, *SHAPE))
    latency[rng.random(latency.shape) < rng.random((n_samples, 1, 1, 1))] = -1
    return Events.from_latency(latency, duration=6, labels=rng.integers(0, 6, n_samples))


def network(threads):
    return Network(LAYERS, SHAPE, seed=1, backend=CpuBackend(threads))


EVENTS, CLASSES = stimuli(700), np.arange(6)


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("batch_size", [512, 90])
def test_results_do_not_depend_on_threads(threads, batch_size):
    one, several = (network(n) for n in (1, threads))
    assert several.run(EVENTS, batch_size=batch_size).equals(one.run(EVENTS))
    recorded = [net.run(EVENTS, record=True, batch_size=batch_size) for net in (one, several)]
    assert all(left.equals(right) for left, right in zip(*recorded, strict=True))
    left, right = (es.evaluate(net, EVENTS, classes=CLASSES, batch_size=batch_size) for net in (one, several))
    assert left.to_dict() == right.to_dict()
    for ask in (
        lambda net: es.decide(net, EVENTS, CLASSES, batch_size=batch_size),
        lambda net: es.features(net, EVENTS, stop=2, batch_size=batch_size).toarray(),
        lambda net: profile(net, EVENTS, batch_size=batch_size).layers[0].stopped,
    ):
        np.testing.assert_array_equal(ask(one), ask(several))


def test_results_do_not_depend_on_how_much_room_a_first_output_has(monkeypatch):
    whole = network(1).run(EVENTS, record=True)
    monkeypatch.setattr("eventsnn.backends.cpu._emit._EXPECTED", 1)  # one sample, however many spikes it has
    few = network(1).run(EVENTS, record=True)
    assert all(left.equals(right) for left, right in zip(whole, few, strict=True))


def test_threads_carry_samples_through_all_layers():
    seen = []

    def work(net, batch):
        seen.append((threading.get_ident(), len(batch)))
        time.sleep(0.01)  # so that nobody is done before the others have begun
        return net.run_through(batch, 0, 3)

    parts = list(network(3).each(work, EVENTS))
    assert es.concatenate(parts).equals(network(1).run(EVENTS))
    threads = {thread for thread, _ in seen}
    assert len(threads) == 3
    assert threading.get_ident() in threads
    assert all(size >= 16 for _, size in seen[:-1])


def most_under_way(events, *size):
    """Return how many samples were given to threads, or waited to be yielded, at a time."""
    lock, under_way, most = threading.Lock(), 0, 0

    def work(net, batch):
        nonlocal under_way, most
        with lock:
            under_way += len(batch)
            most = max(most, under_way)
        time.sleep(0.001)
        return len(batch)

    for done in network(4).each(work, events, *size):
        with lock:
            under_way -= done
    assert under_way == 0
    return most


@pytest.mark.parametrize("size", [2, 50, 512])
def test_no_more_samples_are_under_way_than_a_batch_has(size):
    assert 0 < most_under_way(EVENTS[:300], size) <= size


def test_of_samples_with_many_spikes_fewer_are_under_way(monkeypatch):
    monkeypatch.setattr("eventsnn.batches._EVENTS", EVENTS.n_events // 7)
    monkeypatch.setattr("eventsnn.batches._PIECE_SPIKES", 100)
    assert 0 < most_under_way(EVENTS) <= 100


def test_what_does_not_fit_in_memory_is_done_by_halves_while_no_other_thread_computes():
    lock, busy, sizes, beside = threading.Lock(), [], [], []

    def work(net, batch):
        with lock:
            busy.append(batch)
        try:
            time.sleep(0.001)
            if len(batch) > 10:
                raise MemoryError("too many")
            sizes.append(len(batch))
            beside.append(len(busy) - 1)
            return net.run_through(batch, 0, 3)
        finally:
            with lock:
                busy.pop()

    assert es.concatenate(list(network(3).each(work, EVENTS))).equals(network(1).run(EVENTS))
    assert sum(sizes) == len(EVENTS)
    assert max(sizes) <= 10
    assert max(beside) == 0


def test_a_sample_that_does_not_fit_alone_says_how_large_it_is():
    def work(net, batch):
        raise MemoryError("none left")

    with pytest.raises(MemoryError, match=r"one sample of \d+ spikes on a grid of 2x9x8: none left"):
        list(network(2).each(work, EVENTS))


def test_errors_come_up_as_they_are_after_what_came_before():
    begun = []

    def work(net, batch):
        begun.append(batch)
        if len(begun) > 2:
            raise KeyError("what it said")
        time.sleep(0.02)
        return len(batch)

    found = network(2).each(work, EVENTS)
    assert next(found) > 0
    with pytest.raises(KeyError, match="what it said"):
        list(found)


def test_who_stops_listening_stops_the_threads():
    calls, threads = [], threading.active_count()

    def work(net, batch):
        calls.append(len(batch))
        time.sleep(0.05)

    found = network(2).each(work, EVENTS)
    next(found)
    found.close()
    assert threading.active_count() == threads
    assert sum(calls) < len(EVENTS)


@pytest.mark.parametrize("n_samples", [0, 1, 30])
def test_where_there_is_little_to_share_no_thread_is_started(n_samples, monkeypatch):
    monkeypatch.setattr("eventsnn.batches.ThreadPoolExecutor", None)
    assert network(2).run(EVENTS[:n_samples]).equals(network(1).run(EVENTS[:n_samples]))


def test_a_few_samples_of_many_spikes_have_a_thread_each():
    rng = np.random.default_rng(1)
    latency = rng.integers(0, 9, (3, 2, 80, 80))
    events, seen = Events.from_latency(latency, duration=9), set()
    net = Network([Conv(2, 3, threshold=3)], (2, 80, 80), backend=CpuBackend(3))

    def work(net, batch):
        seen.add(threading.get_ident())
        time.sleep(0.05)
        return len(batch)

    assert list(net.each(work, events)) == [1, 1, 1]
    assert len(seen) == 3


def several_networks():
    layers = [
        LAYERS,
        [Conv(40, 3, threshold=4), Pool(2), Conv(7, 2, threshold=2)],
        [Conv(5, 3, threshold=2, padding=1), Conv(9, 2, threshold=3)],
    ]
    return [Network(chosen, SHAPE, seed=2, backend=CpuBackend(1)) for chosen in layers]


def test_different_networks_run_at_once_in_threads_of_the_caller():
    """What a thread keeps from call to call is its own, and what is kept with weights may be let go while in use."""
    inputs = [replace_fields(EVENTS[:60], duration=6 + more) for more in range(20)]  # more than the plans of a layer
    turns = [(which, events) for events in inputs for which in range(3)] * 3
    expected = [net.run(events) for events in inputs for net in several_networks()] * 3
    nets = several_networks()
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda turn: nets[turn[0]].run(turn[1]), turns)
        assert all(left.equals(right) for left, right in zip(found, expected, strict=True))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_task_is_done_once_and_by_all_threads(threads):
    done, all_there = [], threading.Barrier(threads)

    def work(task):
        if task < threads:
            all_there.wait(60)
        done.append((task, threading.get_ident()))

    each(work, range(30), threads)
    assert sorted(task for task, _ in done) == list(range(30))
    assert len({thread for task, thread in done if task < threads}) == threads
    assert threading.get_ident() in {thread for _, thread in done}


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_task_that_failed_is_told_and_no_more_are_begun(threads):
    begun, all_there = [], threading.Barrier(threads)

    def work(task):
        begun.append(task)
        all_there.wait(60)
        time.sleep(0.02 * (threads - task))  # the first one fails last
        raise ValueError(f"task {task}")

    with pytest.raises(ValueError, match="task 0"):
        each(work, range(30), threads)
    assert sorted(begun) == list(range(threads))


class InterruptedAtOnce:
    """Tasks for one other thread; whoever made them is interrupted when it asks for one, once that thread has begun."""

    def __init__(self):
        self.caller, self.left, self.begun = threading.get_ident(), [0], threading.Event()

    def __iter__(self):
        return self

    def __next__(self):
        if threading.get_ident() == self.caller:
            assert self.begun.wait(60)
            raise KeyboardInterrupt
        if not self.left:
            raise StopIteration
        return self.left.pop()


def test_nobody_waits_for_a_caller_that_was_interrupted_between_tasks():
    tasks, given_up, waited = InterruptedAtOnce(), threading.Event(), []

    def work(_):
        tasks.begun.set()
        waited.append(given_up.wait(60))

    with pytest.raises(KeyboardInterrupt):
        each(work, tasks, 2, given_up.set)
    assert waited == [True]


def test_threads_end_where_another_one_cannot_be_started(monkeypatch):
    started = []

    class OnlyOne(threading.Thread):
        def start(self):
            if started:
                raise RuntimeError("can't start new thread")
            started.append(self)
            super().start()

    monkeypatch.setattr("eventsnn.threads.Thread", OnlyOne)
    with pytest.raises(RuntimeError, match="can't start"):
        each(lambda task: time.sleep(0.001), range(10_000), 3)
    assert not started[0].is_alive()


class Held:
    """Something that can be referred to weakly."""


@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_failed_task_held_is_let_go_with_its_error(threads):
    held = []

    def work(_):
        large = Held()
        held.append(weakref.ref(large))
        raise ValueError("failed")

    gc.disable()
    try:
        with suppress(ValueError):
            each(work, range(2), threads)
        assert held
        assert not any(reference() for reference in held)
    finally:
        gc.enable()
