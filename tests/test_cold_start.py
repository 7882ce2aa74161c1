"""What is compiled, and when: each kernel once, for any data, settings and place, and in the first process only."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

PREPARE = """
import json, sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numba.core import event
from numba.core.dispatcher import Dispatcher

import eventsnn as es
from eventsnn.backends.cpu import CpuBackend
from eventsnn.encode import mozafari2019_mnist
from eventsnn.io import write

folder = Path(sys.argv[1])


class Compiled(event.Listener):
    def __init__(self):
        self.names = []

    def on_start(self, e):
        self.names.append(e.data["dispatcher"].py_func.__qualname__)

    def on_end(self, e):
        pass


compiled = Compiled()
event.register("numba:compile", compiled)


def signatures():
    modules = [module for name, module in sys.modules.items() if name.startswith("eventsnn.")]
    functions = {k for module in modules for k in vars(module).values() if isinstance(k, Dispatcher)}
    kernels = [k for k in functions if "no_cpython_wrapper" not in k.targetoptions]  # what Python calls
    return {f"{k.py_func.__module__}.{k.py_func.__name__}": len(k.signatures) for k in kernels if k.signatures}


def grown(variations):
    found, before = {}, signatures()
    for name, work in variations.items():
        work()
        now = signatures()
        if more := {k: n - before.get(k, 0) for k, n in now.items() if n != before.get(k, 0)}:
            found[name] = more
        before = now
    return found


def encoded(n, seed=0, labels=np.int64, size=28):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (n, size, size)).astype(np.uint8)
    return mozafari2019_mnist().encode(images, (np.arange(n) % 3).astype(labels))


def network(maps=30, threshold=15.0, kernel=5, shape=(6, 28, 28), seed=0, backend="cpu"):
    conv = es.Conv(maps, kernel=kernel, padding=kernel // 2, threshold=threshold)
    last = es.Conv(6, kernel=3, threshold=es.inf)
    return es.Network([conv, es.Pool(2), last], shape=shape, seed=seed, backend=backend)


def train(data, net, **fields):
    es.fit(net, data, layer=0, rule=es.STDP(0.004, -0.003), competition=es.WTA(5, radius=3), **fields)
    rule = es.RSTDP(reward=(0.004, -0.003), punish=(-0.004, 0.0005), bounds=(0.2, 0.8))
    es.fit(net, data, layer=2, rule=rule, **fields)
    es.evaluate(net, data)
    return net
"""

VARY = """
def frozen(events):
    names = ("time", "channel", "y", "x", "offsets", "labels")
    arrays = {name: getattr(events, name).copy() for name in names}
    for array in arrays.values():
        array.setflags(write=False)
    return replace(events, **arrays)


def strided(events):
    return replace(events, **{n: np.repeat(getattr(events, n), 2)[::2] for n in ("time", "channel", "y", "x")})


def stored(name):
    write(folder / name, encoded(20))
    return es.EventDataset(folder / name)


for n in (10, 40):  # few samples and many may take different ways
    train(encoded(n), network())
VARIATIONS = {
    "samples": lambda: train(encoded(33), network()),
    "one sample": lambda: train(encoded(3)[:1], network()),
    "batch size": lambda: train(encoded(20), network(), batch_size=7),
    "a file": lambda: train(stored("first.h5"), network()),
    "another path": lambda: train(stored("second.h5"), network(), memory=0, shuffle=True),
    "seeds": lambda: train(encoded(20, seed=4), network(seed=3), seed=5),
    "thresholds": lambda: train(encoded(20), network(threshold=7)),
    "maps": lambda: train(encoded(20), network(maps=70)),
    "one map": lambda: train(encoded(20), network(maps=1)),
    "kernel": lambda: train(encoded(20), network(kernel=3)),
    "kernel too large for a sieve": lambda: train(encoded(20), network(kernel=7)),
    "threads": lambda: train(encoded(80), network(backend=CpuBackend(3))),
    "grid": lambda: train(encoded(20, size=20), network(shape=(6, 20, 20))),
    "labels": lambda: train(encoded(20, labels=np.uint8), network()),
    "arrays that may not be written": lambda: train(frozen(encoded(20)), network()),
    "arrays that are not contiguous": lambda: train(strided(encoded(20)), network()),
    "a selection": lambda: train(encoded(20)[[4, 2, 9, 0, 1]], network()),
    "duration": lambda: train(replace(encoded(20), duration=1 << 40, unit="us"), network()),
    "epochs": lambda: train(encoded(20), network(), epochs=2, shuffle=True),
    "mini-batches": lambda: train(encoded(20), network(), mini_batch=4),
    "dropout": lambda: train(encoded(20), network(), dropout=0.5),
    "patches": lambda: train(encoded(20), network(), patches=True),
    "inhibited input": lambda: es.fit(network(), encoded(20), layer=0, rule=es.STDP(0.1, -0.1), inhibit_input=True),
    "suppression": lambda: train(encoded(20), network(), suppression=es.Suppression(every=9)),
    "rule": lambda: es.fit(network(), encoded(20), layer=0, rule=es.STDP(0.1, -0.1, tau=5.0)),
}
print(json.dumps({"grown": grown(VARIATIONS), "compiled": compiled.names, "signatures": signatures()}))
"""

INFER = """
net, data = network(), encoded(5)
es.features(net, data)
print(json.dumps({"compiled": compiled.names, "signatures": signatures()}))
"""

ENCODE = """
import os
from eventsnn.encode import DoG, EqualBins, Filter, ImageEncoder, LocalNormalization, kheradpisheh2018_mnist


def images(n=3, size=28, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 255, (n, size, size)).astype(dtype)


def frozen(array):
    array.setflags(write=False)
    return array


def encoder(window=7, padding=3, threshold=50.0, radius=8, bins=15, kernels=2):
    cells = Filter([DoG(window, 1 + i, 2 + i) for i in range(kernels)], padding=padding, threshold=threshold)
    return ImageEncoder((cells, LocalNormalization(radius)), EqualBins(bins))


def by_threads():
    os.environ["EVENTSNN_THREADS"] = "3"
    encoder().encode(images(300))


encoder().encode(images())
VARIATIONS = {
    "images": lambda: encoder().encode(images(130)),
    "one image": lambda: encoder().encode(images(1)),
    "no image": lambda: encoder().encode(images(0)),
    "size": lambda: encoder().encode(images(size=61)),
    "labels": lambda: encoder().encode(images(), np.zeros(3, np.uint8)),
    "float32": lambda: encoder().encode(images(dtype=np.float32)),
    "float64": lambda: encoder().encode(images(dtype=np.float64)),
    "images that may not be written": lambda: encoder().encode(frozen(images())),
    "images that are not contiguous": lambda: encoder().encode(images(6)[::2, :, ::-1]),
    "window": lambda: encoder(window=5).encode(images()),
    "padding": lambda: encoder(padding=0).encode(images()),
    "threshold": lambda: encoder(threshold=0).encode(images()),
    "radius": lambda: encoder(radius=3).encode(images()),
    "bins": lambda: encoder(bins=100).encode(images()),
    "one kernel": lambda: encoder(kernels=1).encode(images()),
    "five kernels": lambda: encoder(kernels=5).encode(images()),
    "published": lambda: [e().encode(images()) for e in (kheradpisheh2018_mnist, mozafari2019_mnist)],
    "threads": by_threads,
}
print(json.dumps({"grown": grown(VARIATIONS), "compiled": compiled.names, "signatures": signatures()}))
"""


def run(program, folder):
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + program, str(folder)],
        cwd=HERE.parent,
        env=os.environ | {"EVENTSNN_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """Return what two processes compiled, one after the other."""
    folder = tmp_path_factory.mktemp("data")
    return run(VARY, folder), run(VARY, folder)


def test_no_kernel_is_compiled_again_for_other_data_settings_or_places(varied):
    allowed = {  # used there first
        "a file": {f"eventsnn.io._chunk_kernels.{name}": 1 for name in ("fletcher32", "unshuffle")},
        "inhibited input": {"eventsnn.backends.cpu._competition.pointwise_keep": 1},
    }
    assert varied[0]["grown"] == allowed


def test_each_kernel_of_the_backend_has_one_signature(varied):
    kernels = {name: n for name, n in varied[0]["signatures"].items() if ".backends." in name}
    names = {name.removeprefix("eventsnn.backends.cpu.") for name in kernels}
    assert {"_learn.learn_samples", "_pooled.conv_pool_samples", "_decide.decide_samples"} <= names
    assert {name: n for name, n in kernels.items() if n != 1} == {}


def test_a_second_process_compiles_nothing(varied):
    assert varied[1]["compiled"] == []
    assert varied[1]["signatures"] == {k: n for k, n in varied[0]["signatures"].items() if k in varied[1]["signatures"]}


def test_inference_needs_no_kernel_of_learning(tmp_path):
    used = run(INFER, tmp_path)["signatures"]
    assert "eventsnn.backends.cpu._conv.conv_samples" in used
    assert not [name for name in used if "learn" in name or "change" in name]


def test_encoding_needs_no_kernel_of_a_backend_and_none_a_second_time(tmp_path):
    done = run(ENCODE, tmp_path)
    assert {"_one_pass", "_write"} <= {name.split(".")[-1] for name in done["signatures"]}
    assert not [name for name in done["signatures"] if ".backends." in name]
    assert done["grown"] == {}
    assert set(done["signatures"].values()) == {1}
