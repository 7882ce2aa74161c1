"""The tables of both READMEs are what the recorded measurements say."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import at_scale  # noqa: E402
from benchmarks.render import (  # noqa: E402
    ALL_RESULTS,
    README,
    SCALE,
    all_results,
    low_seeds,
    mnist_row,
    read,
    results,
    selection_table,
    with_results,
)
from benchmarks.render_gpu import fingerprint, gpu_section, sources  # noqa: E402
from benchmarks.render_peers import full, newest, targets_table  # noqa: E402
from benchmarks.render_recordings import section as recordings_section  # noqa: E402
from benchmarks.render_studies import least  # noqa: E402
from eventsnn.backends import device  # noqa: E402


def test_readme_shows_the_recorded_results():
    text = README.read_text()
    assert with_results(text, results()) == text
    assert read("mnist"), "no measurement is recorded"
    assert all(f"{line['test_accuracy']:.2%}" in text for line in {r["model"]: r for r in read("mnist")}.values())


def test_readme_of_the_benchmarks_shows_the_newest_comparison():
    text = ALL_RESULTS.read_text()
    assert with_results(text, all_results()) == text
    assert all(f"### {workload}\n" in text for workload, _, _ in newest(read("peers")))


def test_recordings_are_shown_beside_every_peer_of_the_newest_run():
    def line(program, speed, commit="new"):
        own = {"file": "DAT", "program": program, "version": "1.0", "events": 2000, "commit": commit, "processor": "p"}
        return own | {"million_events_per_cpu_second": speed}

    gone, ours, theirs = line("gone", 3.0, "old"), line("eventsnn", 12.0), line("faery", 8.0)
    assert "| DAT | 2,000 | 12 | 8 (1.5 x) |\n" in recordings_section([gone, ours, theirs], [])
    long = {"benchmark": "long recording", "events": 20, "step": "run", "cpu_seconds": 2.0, "peak_gib": 0.25}
    shown = recordings_section([], [long | {"cpu_nanoseconds_an_event": 9.0}, long | {"cpu_nanoseconds_an_event": 7.0}])
    assert "| 20 | run | 2.0 s | 7 | 0.25 GiB |\n" in shown
    assert shown.count("| run |") == 1
    assert recordings_section([], []) == ""


def test_only_the_newest_run_of_a_stage_is_shown():
    old = {"workload": "w", "stage": "s", "peer": "gone", "run": "1"}
    new = {"workload": "w", "stage": "s", "peer": "eventsnn", "run": "2"}
    other = {"workload": "w", "stage": "t", "peer": "gone", "run": "1"}
    absent = {"peer": "gone", "absent": "not installed", "run": "2"}
    assert newest([old, new, other, absent]) == {("w", "s", "eventsnn"): new, ("w", "t", "gone"): other}


def lines_of(workload, stage, **milliseconds):
    names = {"ours": "eventsnn", "spyketorch": "SpykeTorch", "dense": "dense PyTorch"}
    common = {
        "workload": workload,
        "stage": stage,
        "run": "1",
        "processor": "CPU",
        "samples": 10,
        "load": 0.0,
        "note": "",
    }
    common |= {"date": "today", "commit": "abc", "samples_are": "Digits", "version": "1", "differs": ""}
    return [common | {"peer": names[peer], "cpu_seconds": [t / 100]} for peer, t in milliseconds.items()]


def test_one_slow_turn_does_not_count():
    lines = lines_of("mozafari2019_mnist", "all layers", ours=2, spyketorch=5, dense=30)
    lines[0]["cpu_seconds"] = [0.02, 0.02, 9.0]
    lines[1]["cpu_seconds"], lines[2]["cpu_seconds"] = [0.05] * 3, [0.3] * 3
    row = "| inference, three layers, learnt weights | 2.5 | 15 | – | – |"
    assert row in targets_table(lines, []).splitlines()
    assert "| all layers | 2 | 5 (2.5 x) | 30 (15 x) |  |  |" in full(lines).splitlines()


def test_ratios_are_taken_turn_by_turn():
    lines = lines_of("mozafari2019_mnist", "layers 1-2", ours=2, spyketorch=5)
    lines[0]["cpu_seconds"], lines[1]["cpu_seconds"] = [1.0, 2.0, 8.0], [4.0, 8.0, 8.0]
    assert "| inference, two layers | 4.0 | – | – | – |" in targets_table(lines, []).splitlines()


def test_the_gain_of_two_threads_is_shown_beside_that_of_a_loop():
    stages = [lines_of("mozafari2019_mnist", f"{name}, many images", ours=1) for name in ("all layers", "encoding")]
    lines = [line for (one,) in stages for line in (one, one | {"peer": "eventsnn, 2 threads"})]
    for line, seconds in zip(lines, ([1.0, 2.0, 9.0], [0.5, 1.25, 9.0], [3.0] * 3, [2.0] * 3), strict=True):
        line |= {"wall_seconds": seconds, "samples": 10_000}
    shown = targets_table(lines, [])
    assert "factor of: inference of 10,000 images 1.60, encoding of 10,000 images 1.50 (wall time)." in shown
    lines[0]["loop_wall_seconds"], lines[1]["loop_wall_seconds"] = [1.9, 1.0, 1.0], [1.0] * 3
    assert "inference of 10,000 images 1.60 (the loop 1.00), encoding" in targets_table(lines, [])
    assert "what the machine allowed in the same turns)." in targets_table(lines, [])


def test_disagreement_and_what_is_not_offered_are_shown():
    lines = lines_of("w", "layer 1", ours=2, spyketorch=5)
    counts = {"what": "spikes", "of": 1000}
    lines[1] |= {"agreement": counts | {"differ": 3}, "agreement_rounded": counts | {"differ": 0}, "differs": "order"}
    lines.append({"workload": "w", "stage": "layer 2", "peer": "SpykeTorch", "run": "1", "not_offered": "too hard"})
    shown = full(lines).splitlines()
    assert "| layer 1: spikes | 3 of 1,000 (0 of 1,000) |" in shown
    assert "- SpykeTorch: order (layer 1)" in shown
    assert "- SpykeTorch: too hard (layer 2)" in shown


def test_times_are_of_a_sample_and_input_spikes_are_shown_where_recorded():
    line = read("mnist")[0] | {"training_images": 50, "steps": [{"epoch_seconds": [1.0, 2.0]}]}
    line.pop("input_spikes", None)
    assert "| 30.000 | 1011, 2770 |" in mnist_row([line])
    assert "| 30.000 | input 123, 1011, 2770 |" in mnist_row([line | {"input_spikes": 123.4}])


def test_what_falls_short_is_said():
    good, bad = ({"model": "mozafari2018_eth80", "seed": i, "test_accuracy": x} for i, x in enumerate((0.81, 0.79)))
    assert low_seeds([good]) == []
    assert "79.0% with seed 1" in low_seeds([good, bad])[0]


def test_a_selection_is_the_mean_over_seeds():
    line = {"model": "m", "seed": 0, "training_images": 5, "held_out_images": 2, "epochs": [1, 2], "regions": [2, 2]}
    lines = [line | {"C": 0.1, "held_out_accuracy": 0.5}, line | {"C": 0.1, "held_out_accuracy": 1.0, "seed": 1}]
    rows = selection_table([*lines, line | {"C": 1.0, "held_out_accuracy": 0.25}]).splitlines()
    assert rows[-1] == "| 1 + 2 | 2x2 | 75.00% | 25.00% |"


def test_the_cost_model_shows_the_newest_records():
    text = SCALE.read_text()
    assert with_results(text, at_scale.tables(read("shares"))) == text


def records_of_shares(**inference):
    common = {"processor": "CPU", "commit": "abc", "date": "today"}
    file = {"events": 2_000_000, "recorded_seconds": 100, "bytes": 6_000_000, "reading_cpu_seconds": 0.2}
    passed = {"events": 1_000_000, "cpu_seconds": 0.5, "recordings": 250, "output_spikes": 250_000} | inference
    half = {"layer": 0, "mini_batch": 100, "find_cpu_seconds": 0.01, "reach_cpu_seconds": 0.005}
    half |= {"change_cpu_seconds": 0.002, "weights_bytes": 4000, "near_bytes": 110_000, "winners_bytes": 15_000}
    parts = {"file": file, "inference": passed, "learning": half}
    parts["tasks"] = {"round_trip_seconds": 0.03, "task_seconds": 0.01}
    return [common | {"part": part} | line for part, line in parts.items()]


def test_the_cost_model_by_hand():
    old = records_of_shares(cpu_seconds=99)
    rows = at_scale.tables([*old, *records_of_shares()]).splitlines()
    assert "| events in a second of recording | 20,000 |" in rows
    assert "| the same, times real time | 100 |" in rows  # 2 million events a second
    # 3.6e9 s x 20,000 = 7.2e13 events of 3 bytes; 10 million a second are read, 2 million go through
    assert "| as N-MNIST's | 7.2e+13 | 216 TB | 2,000 | 10,000 | 10 h |" in rows
    assert "| bytes a second from storage | 3,000 *g* | 60 GB/s |" in rows  # g = 20 million
    assert "| cores that read and check, for each GPU | *g* / 1.0e+07 | 2.00 |" in rows
    assert "| a feature for each neuron that fired | 12,000 | 208 |" in rows  # 1.25e9 / (500 recordings x 12,000)
    # 120 us alone; 20 us to change and 1,250 bytes, 1 us: 120 / 21
    assert "| 0 | 100 | 50 | 20 | 1,250 | 4,000 | 5.7 x |" in rows
    half = at_scale.Half.of(records_of_shares()[2])
    tasks = records_of_shares()[3]
    # 1,000 samples: 150 / 4 + 20 us, 1,250,000 + 16,000 bytes, 30 ms for two tasks and 10 ms for each of two more
    assert abs(half.seconds(4, 1000, tasks) - (0.0375 + 0.020 + 1_266_000 / 1.25e9 + 0.05)) < 1e-9


def gpu_lines(made_of):
    """Return what ``benchmarks.gpu`` records: the outcome of the tests, then figures."""
    rates = {"eventsnn": 60_000.0, "SpykeTorch": 500.0}
    tests = {"passed": 9, "failed": 0, "skipped": 0, "error": 0}
    layers = [{"layer": "Conv(30, kernel=5)", "bytes_per_second": 2e12, "seconds": {}}]
    common = {"device": "NVIDIA H100", "date": "today", "commit": "abc", "sources": made_of}
    return common | {"tests": tests}, common | {"all layers": rates, "layers": layers, "l2_bytes_per_second": 5e12}


def test_the_readme_says_whether_a_gpu_was_ever_had():
    assert "never run on a device" in gpu_section([], fingerprint())
    shown = gpu_section([*gpu_lines("old"), *gpu_lines(fingerprint())], fingerprint())
    assert shown.count("a record of the present kernels") == 2
    assert "| 60,000 | – | 500 (120.0 x) |" in shown
    assert "weights at 40% of what" in shown
    assert "(`pytest -m gpu`): 9 passed.\n" in shown


def test_tests_are_shown_without_figures_of_the_same_day():
    tests, _ = gpu_lines(fingerprint())
    assert "9 passed.\n\n**No figure for a GPU** yet" in gpu_section([tests], fingerprint())
    shown = gpu_section([*gpu_lines("old"), tests], fingerprint())
    assert "abc, a record of the present kernels (`pytest -m gpu`): 9 passed." in shown
    assert "abc, a record of **earlier kernels** than the present ones\n(`python -m benchmarks.gpu`" in shown


def test_the_fingerprint_is_of_all_that_makes_kernels(monkeypatch):
    kernels = {"kernels.cu", "images.cu", "learn.cu", "own.cu"}
    launchers = {f"cuda{name}.py" for name in ("", "_images", "_learning", "_rules", "_structures")}
    assert {path.name for path in sources()} == kernels | launchers | {"device.py", "nvrtc.py"}
    assert set(device.SOURCES) <= kernels
    before, read = fingerprint(), Path.read_bytes
    for name in ("own.cu", "nvrtc.py"):
        monkeypatch.setattr(Path, "read_bytes", lambda path, name=name: read(path) + b" " * (path.name == name))
        assert fingerprint() != before


def test_a_record_of_other_kernels_is_called_so():
    assert "**earlier kernels**" in gpu_section([*gpu_lines(fingerprint()), *gpu_lines("old")], fingerprint())


def test_of_repeated_studies_the_least_times_count():
    first = {"run": "a", "seconds": 2.0, "dense_seconds": 3.0, "density": 0.1}
    second = first | {"seconds": 1.0, "dense_seconds": 4.0}
    other = {"run": "b", "seconds": 5.0, "dense_seconds": 6.0, "density": 1.0}
    assert least([first, other, second]) == [first | {"seconds": 1.0}, other]
