"""Windows of a stream that comes in pieces, by pipe, socket or growing file: those of the file read at once."""

import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import lz4.frame
import numpy as np
import prophesee_files as files
import pytest
from event_files import (
    AEDAT3,
    aedat2_header,
    aedat3,
    aedat4,
    aedat4_header,
    davis346,
    drained,
    dvs128,
    es_atis,
    es_dvs,
    es_header,
)

import eventsnn as es
from eventsnn.convert import convert
from eventsnn.encode import ByCount, ByTime, CameraEncoder, Crop, EveryEvent, FirstSpike, Refractory, WindowChannels
from eventsnn.io import EVENT_DTYPE
from eventsnn.io.feed import feed_recording, open_feed

SENSOR = (12, 9)
SMALL_HEADER = files.header(evt="3.0", geometry="12x9")


def drawn(n=400, seed=0):
    """Return steps of a recording of about 20 ms."""
    rng = np.random.default_rng(seed)
    columns = (rng.integers(0, high, n).tolist() for high in (100, *SENSOR, 2))
    return [("event", *step) for step in zip(*columns, strict=True)]


STEPS = drawn()
ENCODER = CameraEncoder(ByTime(1000), FirstSpike(bins=10), [Refractory(50)])


@pytest.fixture(scope="module")
def network():
    layers = [es.Conv(4, kernel=3, padding=1, threshold=1.5), es.Conv(3, kernel=3, threshold=1)]
    net, rng = es.Network(layers, (2, 9, 12)), np.random.default_rng(0)
    net.set_weights(0, rng.normal(0.8, 0.4, (4, 2, 3, 3)))
    net.set_weights(1, rng.normal(0, 1, (3, 4, 3, 3)))
    net.classes = np.array([7, 8, 9])
    return net


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return a recording in EVT 3."""
    file = tmp_path_factory.mktemp("recordings") / "bar.raw"
    file.write_bytes(SMALL_HEADER + files.evt3(STEPS))
    return file


@pytest.fixture(scope="module")
def expected(path):
    return list(ENCODER.samples(es.open(path)))


def check(windows, expected, network):
    windows = list(windows)
    assert [(w.index, w.start, w.length) for w in windows] == [(i, s.start, s.length) for i, s in enumerate(expected)]
    for window, sample in zip(windows, expected, strict=True):
        assert window.events.equals(sample.events)
        assert window.output.equals(network.run(sample.events))
        assert window.decision == es.decide(network, sample.events)[0]
        assert 0 < window.network_seconds <= window.latency
    assert len({w.decision for w in windows}) > 1
    return windows


def written(write, content, piece=37):
    """Write content in small pieces, in a thread of its own."""

    def work():
        for start in range(0, len(content), piece):
            write(content[start : start + piece])
        write(b"")

    thread = threading.Thread(target=work)
    thread.start()
    return thread


class Pipe:
    """The two ends of a pipe; the writing one closes when nothing is written any more."""

    def __init__(self, buffered):
        read, self._write = os.pipe()
        self.read = os.fdopen(read, "rb") if buffered else os.fdopen(read, "rb", buffering=0)

    def write(self, data):
        if data:
            os.write(self._write, data)
        else:
            os.close(self._write)


CONTENTS = {
    "evt3": files.evt3(STEPS),
    "evt2": files.evt2(STEPS),
    "evt21": files.evt21(STEPS),
    "events": np.array(files.events_of(STEPS), EVENT_DTYPE).tobytes(),
}


@pytest.mark.parametrize("kind", sorted(CONTENTS))
def test_a_pipe_in_small_pieces(kind, expected, network):
    pipe = Pipe(buffered=False)
    writer = written(pipe.write, CONTENTS[kind])
    with pipe.read, es.live(pipe.read, network, ENCODER, format=kind, sensor=SENSOR) as windows:
        check(windows, expected, network)
        assert windows.report.n_events == len(STEPS)
        assert not windows.report.dropped
    writer.join()


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize("buffered", [False, True])
def test_a_pipe_with_a_header(piece, buffered, expected, network):
    pipe = Pipe(buffered)
    writer = written(pipe.write, SMALL_HEADER + CONTENTS["evt3"], piece)
    with pipe.read, es.live(pipe.read, network, ENCODER) as windows:
        check(windows, expected, network)
    writer.join()


def test_headers_that_end_with_a_line_or_look_as_if_they_went_on(expected, network):
    ended = SMALL_HEADER + b"% end\n" + CONTENTS["evt3"]
    with es.live(io.BytesIO(ended), network, ENCODER) as windows:
        check(windows, expected, network)
    # A trigger whose bytes are "%\xa0" and other words: a percent sign, but no line.
    with es.live(io.BytesIO(SMALL_HEADER + b"%\xa0" + CONTENTS["evt3"]), network, ENCODER) as windows:
        check(windows, expected, network)
        assert windows.report.skipped == {"triggers": 1}


EVENTS = [(5 + 40 * i, i % 12, i % 9, i % 2) for i in range(200)]
HEADED = {  # what other programs stream, with their header
    "DAT": files.header(Version=2, Width=12, Height=9) + bytes([12, 8]) + files.dat(STEPS),
    "AEDAT 2 (DVS128)": aedat2_header(" AEChip: DVS128") + dvs128(EVENTS),
    "AEDAT 2 (DAVIS)": aedat2_header(" AEChip: DAVIS346") + davis346(EVENTS),
    "AEDAT 3.1": AEDAT3 + aedat3(EVENTS),
    "AEDAT 4": aedat4_header() + aedat4(EVENTS),
    "Event Stream (DVS)": es_header(1, 12, 9) + es_dvs(EVENTS, 9),
    "Event Stream (ATIS)": es_header(2, 12, 9) + es_atis(EVENTS, 9),
    "AEDAT 4, LZ4": aedat4_header(1) + aedat4(EVENTS, lz4.frame.compress),
}


@pytest.mark.parametrize("piece", [1, 13, 5000])
@pytest.mark.parametrize("name", HEADED)
def test_other_recordings_by_pipe(name, piece, tmp_path):
    content = HEADED[name][:-3]  # the last is cut
    (tmp_path / "whole").write_bytes(content)
    whole = es.open(tmp_path / "whole")
    expected, report = drained(whole)
    assert len(expected) >= 195
    pipe = Pipe(buffered=False)
    writer = written(pipe.write, content, piece)
    with pipe.read:
        found = feed_recording(open_feed(pipe.read))
        assert drained(found) == (expected, report)
    writer.join()
    assert (found.format, found.sensor, found.orientation) == (whole.format, whole.sensor, whole.orientation)
    assert feed_recording(open_feed(io.BytesIO(content)), sensor=(9, 8)).sensor == (9, 8)


def test_a_packet_is_given_as_soon_as_it_is_there():
    """Though the next one has not come, and that of frames between them neither."""
    head, packets = aedat4_header(), aedat4(EVENTS[:4])
    read, write = os.pipe()
    os.write(write, head + packets)
    with open(read, "rb", buffering=0) as stream:
        chunks = feed_recording(open_feed(stream)).chunks()
        assert next(chunks).to_structured().tolist() == EVENTS[:4]
        os.close(write)
        assert list(chunks) == []


def test_windows_of_a_packet_stream(network):
    encoder = CameraEncoder(ByTime(1000), FirstSpike(bins=10), [Crop(0, 0, 12, 9)])
    with es.live(io.BytesIO(HEADED["AEDAT 4"]), network, encoder) as windows:
        assert sum(window.events.n_events for window in windows) > 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is HDF5, which cannot be read while it comes"),
        (aedat2_header() + dvs128(EVENTS), "names the camera"),
        (aedat4_header()[:30], "ends within its header"),
        (AEDAT3[:-4], "a header that ends with #!END-HEADER"),
        (files.header(Version=2) + bytes([12]), "ends within its header"),
        (files.header(Version=2) + bytes([3, 8]), "found kind 3"),
        (es_header(1, 12, 9)[:19], "ends within its header"),
        (es_header(0, 12, 9), "generic events, which have no pixels"),
        (es_header(1, 12, 0), "width and height expect 1 to 8192, found 12x0"),
        (b"Event Strea", "has no header of Prophesee RAW or DAT, AEDAT 2, 3.1 or 4, or Event Stream, so its format is"),
    ],
)
def test_headers_that_cannot_be(content, message):
    with pytest.raises(ValueError, match=message):
        feed_recording(open_feed(io.BytesIO(content)))


def test_a_packet_that_claims_much(network):
    content = aedat4_header() + struct.pack("<ii", 0, 1 << 30)
    with pytest.raises(es.EventFileError, match="found a size of 1073741824 bytes"):
        drained(feed_recording(open_feed(io.BytesIO(content))))


def test_a_socket(expected, network):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        done = threading.Event()

        def serve():
            connection, _ = server.accept()
            with connection:
                for start in range(0, len(CONTENTS["evt2"]), 41):
                    connection.sendall(CONTENTS["evt2"][start : start + 41])
            done.set()

        threading.Thread(target=serve, daemon=True).start()
        with es.live(address, network, ENCODER, format="evt2", sensor=SENSOR) as windows:
            check(windows, expected, network)
        assert done.wait(10)


def test_a_socket_can_be_left(network):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        threads = threading.active_count()
        with es.live(address, network, ENCODER, format="events", sensor=SENSOR) as windows:
            connection, _ = server.accept()
            with connection:
                connection.sendall(CONTENTS["events"][: 13 * 100])
                assert next(windows).index == 0
                windows.close()
                assert list(windows) == []
    deadline = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= threads


def test_a_growing_file(tmp_path, expected, network):
    file = tmp_path / "growing.raw"
    file.write_bytes(b"")
    content = SMALL_HEADER + CONTENTS["evt3"]

    def append(data):
        with file.open("ab") as stream:
            stream.write(data)

    writer = written(append, content, 300)
    with es.live(file, network, ENCODER, follow=True) as windows:
        found = [next(windows) for _ in expected[:-1]]  # the last window is never known to be complete
        writer.join()
        check(found, expected[:-1], network)


@pytest.mark.parametrize("name", ["AEDAT 4", "AEDAT 4, LZ4"])
def test_a_growing_file_of_packets(tmp_path, name):
    """Each packet is given before the next one is begun, and a part of one as soon as its rest is there."""
    head = aedat4_header(1 if "LZ4" in name else 0)
    compress = lz4.frame.compress if "LZ4" in name else bytes
    file = tmp_path / "growing.aedat4"
    file.write_bytes(head)
    recording = feed_recording(feed := open_feed(file, follow=True))
    chunks = recording.chunks()
    for begin in range(0, 40, 4):
        packet = aedat4(EVENTS[begin : begin + 4], compress)
        with file.open("ab") as stream:
            stream.write(packet[:-20])
            stream.flush()
            timer = threading.Timer(
                0.02, lambda stream=stream, packet=packet: (stream.write(packet[-20:]), stream.flush())
            )
            timer.start()
            assert next(chunks).to_structured().tolist() == EVENTS[begin : begin + 4]
            timer.join()
    feed.close()


def test_windows_over_each_other(path):
    """Each four windows are a sample with their channels side by side; those left at the end are one too."""
    windows = list(ENCODER.samples(es.open(path)))
    encoder, net = WindowChannels(ENCODER, 4), es.Network([es.Conv(2, kernel=3, threshold=1)], (8, 9, 12))
    with es.live(path, net, encoder) as live:
        found = list(live)
    assert len(found) == -(-len(windows) // 4) > 2
    assert len(windows) % 4
    for i, window in enumerate(found):
        group = windows[4 * i : 4 * i + 4]
        columns = [(t, 2 * k + c, y, x) for k, w in enumerate(group) for t, c, y, x in spikes(w.events)]
        assert list(spikes(window.events)) == sorted(columns)
        assert (window.index, window.start, window.length) == (i, group[0].start, 1000 * len(group))
        assert window.events.shape == (8, 9, 12)
    assert found[0].events.equals(encoder.encode([es.open(path)]))


def spikes(events):
    return zip(*(getattr(events, name).tolist() for name in ("time", "channel", "y", "x")), strict=True)


def test_a_file_that_shrinks(tmp_path, network):
    file = tmp_path / "file.raw"
    file.write_bytes(SMALL_HEADER + CONTENTS["evt3"])
    with es.live(file, network, CameraEncoder(ByTime(10_000_000), EveryEvent(5)), follow=True) as windows:
        timer = threading.Timer(0.3, os.truncate, (file, 10))
        timer.start()
        with pytest.raises(es.EventFileError, match=r"file\.raw: became shorter while it was read"):
            next(windows)


def test_recordings_and_their_files(path, expected, network):
    for source in (path, str(path), es.open(path)):
        with es.live(source, network, ENCODER) as windows:
            check(windows, expected, network)
    bare = path.with_name("bare.raw")
    bare.write_bytes(CONTENTS["evt3"])
    with es.live(bare, network, ENCODER, format="evt3", sensor=SENSOR) as windows:
        check(windows, expected, network)
    array = path.with_name("array.npy")  # which names no sensor
    np.save(array, np.frombuffer(CONTENTS["events"], EVENT_DTYPE))
    for source in (array, es.open(array)):
        with es.live(source, network, ENCODER, sensor=SENSOR) as windows:
            check(windows, expected, network)


def test_recordings_in_event_files(path, expected, network, tmp_path):
    convert([path], tmp_path / "own.h5")
    with es.live(tmp_path / "own.h5", network, ENCODER) as windows:
        check(windows, expected, network)


def test_without_classes_the_map_decides(path):
    net = es.Network([es.Conv(3, kernel=3, threshold=1.5)], (2, 9, 12))
    with es.live(path, net, ENCODER) as windows:
        for window in windows:
            first = window.output.channel[window.output.time == window.output.time[:1]]
            assert window.decision in first if len(first) else window.decision == -1


def test_a_readout_decides(path, network):
    encoder = CameraEncoder(ByCount(40), EveryEvent(10))
    events = encoder.encode(es.open(path), 0).with_labels(np.arange(10) % 2)
    net = es.Network(network.layers[:1], network.shape)
    readout = es.LinearReadout().fit(es.features(net, events), events.labels)
    with es.live(path, net, encoder, readout) as windows:
        assert [w.decision for w in windows] == readout.predict(es.features(net, events)).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "has no header of .*, so its format is needed: one of evt2, evt21, evt3, events"),
        ({"format": "evt4"}, "format expects one of evt2, .*got 'evt4'"),
        ({"format": "evt3"}, r"does not say the sensor's size; give it as sensor="),
        ({"format": "evt3", "sensor": (13, 9)}, "expects a grid of 9x12, got 9x13"),
    ],
)
def test_streams_that_cannot_be(options, message, network):
    with pytest.raises(ValueError, match=message):
        es.live(io.BytesIO(CONTENTS["evt3"]), network, ENCODER, **options)


def test_sources_that_cannot_be(network, tmp_path):
    with pytest.raises(ValueError, match=r"expects tcp://HOST:PORT, got 'tcp://nowhere'"):
        es.live("tcp://nowhere", network, ENCODER, format="evt3")
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ConnectionRefusedError, match=f"refused: '{nobody}'"):
        es.live(nobody, network, ENCODER, format="evt3")
    with pytest.raises(TypeError, match=r"expects a method readinto\(\), got list"):
        es.live([], network, ENCODER, format="evt3")
    with pytest.raises(es.EventFileError, match="no such file"):
        es.live(tmp_path / "none.raw", network, ENCODER)
    es.io.write(tmp_path / "set.h5", es.Events.empty((2, 9, 12), 3, unit="us"))
    with pytest.raises(ValueError, match=r"set\.h5: expected a recording, found samples of a data set: 3 samples"):
        es.live(tmp_path / "set.h5", network, ENCODER)
    broken = np.array([(0, 1, 1, 5)], EVENT_DTYPE).tobytes()
    windows = es.live(io.BytesIO(broken), network, ENCODER, format="events", sensor=SENSOR)
    with windows, pytest.raises(es.EventFileError, match="polarities expect 0 and 1, found 5"):
        next(windows)


TURNS = [
    {"swap_xy": True},
    {"flip_x": True},
    {"flip_y": True, "swap_polarity": True},
    {"swap_xy": True, "flip_x": True, "flip_y": True, "swap_polarity": True},
]


@pytest.mark.parametrize("options", TURNS)
@pytest.mark.parametrize("kind", ["file", "recording", "pipe", "bare", "followed"])
def test_what_comes_is_turned(kind, options, path):
    """As :func:`eventsnn.open` turns it: after an exchange of x and y, mirrored on the sensor that results."""
    encoder = CameraEncoder(ByTime(10**9), EveryEvent(5))
    events = np.frombuffer(CONTENTS["events"], EVENT_DTYPE).copy()
    x, y, p = (events[name].copy() for name in "xyp")
    width, height = SENSOR
    if options.get("swap_xy"):
        x, y, width, height = y, x, height, width
    if options.get("flip_x"):
        x = width - 1 - x
    if options.get("flip_y"):
        y = height - 1 - y
    if options.get("swap_polarity"):
        p = 1 - p
    events["x"], events["y"], events["p"] = x, y, p
    wanted = encoder.encode(events, sensor=(width, height))
    net = es.Network([es.Conv(2, kernel=3, threshold=1)], (2, height, width))
    source, more = path, {}
    if kind == "recording":
        source = es.open(path)
    elif kind == "pipe":
        source = io.BytesIO(path.read_bytes())
    elif kind == "bare":
        source, more = io.BytesIO(CONTENTS["events"]), {"format": "events", "sensor": SENSOR}
    elif kind == "followed":
        encoder, more = CameraEncoder(ByTime(1000), EveryEvent(5)), {"follow": True}
        wanted = encoder.encode(events, sensor=(width, height))[0]
    with es.live(source, net, encoder, **more, **options) as windows:
        assert next(windows).events.equals(wanted)


def test_turning_needs_the_size(network):
    stream = io.BytesIO(CONTENTS["events"])
    with pytest.raises(ValueError, match=r"does not say the sensor's size; give it as sensor=\(width, height\)"):
        es.live(stream, network, ENCODER, format="events", flip_x=True)


@pytest.mark.parametrize("start", [0, 999, 1000, 5_999, 123_456_789, 1_700_000_000_000_000, -5500])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("step", [1000, 400, 1700])
def test_windows_on_the_clock_begin_with_the_first_event(network, start, count, step):
    """Those before it are passed over, in groups; the others are what the encoder gives of the recording."""
    events = np.zeros(6, EVENT_DTYPE)
    events["t"], events["x"] = start + np.array([0, 10, 1500, 1600, 4000, 6100]), [1, 2, 3, 4, 5, 6]
    origin = start - start % (10 * step) - 10 * step if start > 10**6 else -6000
    cut = ByTime(1000, step, origin=origin)
    encoder = CameraEncoder(cut, EveryEvent(5))
    net = network
    if count > 1:
        encoder, net = WindowChannels(encoder, count), es.Network([es.Conv(2, kernel=3, threshold=1)], (6, 9, 12))
    every = list(encoder.samples(events, sensor=SENSOR))
    reaching = [k for k, sample in enumerate(every) if sample.start + sample.length > start]
    with es.live(io.BytesIO(events.tobytes()), net, encoder, format="events", sensor=SENSOR) as windows:
        found = list(windows)
    assert start < 10**6 or reaching[0] > 0
    assert [window.start for window in found] == [every[k].start for k in reaching]
    assert all(w.events.equals(every[k].events) for w, k in zip(found, reaching, strict=True))
    assert [window.index for window in found] == list(range(len(found)))


def test_the_clock_of_a_camera_that_has_run_for_years(network):
    """Windows from time 0 on would be a thousand million empty ones."""
    events = np.zeros(3, EVENT_DTYPE)
    events["t"] = 1_700_000_000_000_000 + np.array([7, 500, 150_000])
    encoder = CameraEncoder(ByTime(105_000, origin=0), FirstSpike(bins=10))
    with es.live(io.BytesIO(events.tobytes()), network, encoder, format="events", sensor=SENSOR) as windows:
        first, second = windows
    assert first.start == 1_700_000_000_000_000 // 105_000 * 105_000
    assert (first.events.n_events, second.start - first.start) == (1, 105_000)


def test_a_grid_that_filters_make(path):
    encoder = CameraEncoder(ByTime(5000), EveryEvent(5), [Crop(2, 2, 5, 5)])
    net = es.Network([es.Conv(3, kernel=5, threshold=1.5)], (2, 5, 5))
    with es.live(path, net, encoder) as windows:
        assert next(windows).events.shape == (2, 5, 5)


# The command line


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory):
    file = tmp_path_factory.mktemp("networks") / "net.h5"
    network.save(file)
    return file


def shell(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(Path(es.__file__).parents[1])}
    program = [sys.executable, "-m", "eventsnn", "live", *map(str, arguments)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **options)


def test_standard_input(saved, expected, network, tmp_path):
    (tmp_path / "encoder.json").write_text(json.dumps(ENCODER.to_dict()))
    options = ("--encoder", tmp_path / "encoder.json", "--format", "events", "--sensor", "12x9", "--json")
    process = shell("-", "--network", saved, *options, stdin=subprocess.PIPE)
    out, err = process.communicate(CONTENTS["events"], timeout=120)
    assert (process.returncode, err) == (0, b"")
    *windows, total = map(json.loads, out.splitlines())
    assert [w["decision"] for w in windows] == [es.decide(network, s.events)[0] for s in expected]
    assert [(w["start"], w["spikes"]) for w in windows] == [(s.start, s.events.n_events) for s in expected]
    assert (total["windows"], total["lost"]) == (len(expected), {})
    assert total["latency"]["longest"] == max(w["latency"] for w in windows)


def test_an_interrupt_ends_it_well(saved, path):
    process = shell(path, "--network", saved, "--window", "1ms", "--follow")
    assert b"spikes  decision" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert b" windows, " in out.splitlines()[-1]


def test_an_encoder_from_an_event_file(saved, path, expected, tmp_path, capsys):
    from eventsnn import cli

    es.io.write(tmp_path / "data.h5", ENCODER.encode(es.open(path)), encoder=ENCODER)
    for options, count in (([], len(expected)), (["--window", "500"], 2 * len(expected))):
        with pytest.raises(SystemExit) as left:
            cli.main(["live", str(path), "--network", str(saved), "--encoder", str(tmp_path / "data.h5"), *options])
        assert not left.value.code
        lines = capsys.readouterr().out.splitlines()
        assert abs(len(lines) - 1 - count) <= 1
        assert lines[-1].startswith(f"{len(lines) - 1} windows, ")


def test_options_that_turn(saved, path, network, capsys):
    from eventsnn import cli

    encoder = CameraEncoder(ByTime(1000), EveryEvent())
    with es.live(path, network, encoder, flip_x=True, flip_y=True, swap_polarity=True) as windows:
        expected = [window.decision for window in windows]
    with es.live(path, network, encoder) as windows:
        assert expected != [window.decision for window in windows]
    options = ["--flip-x", "--flip-y", "--swap-polarity", "--no-swap-xy", "--json"]
    with pytest.raises(SystemExit) as left:
        cli.main(["live", str(path), "--network", str(saved), "--window", "1ms", *options])
    assert not left.value.code
    *lines, total = map(json.loads, capsys.readouterr().out.splitlines())
    assert [line["decision"] for line in lines] == expected
    assert total["windows"] == len(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--window or --encoder has to be given"),
        (["--window", "soon"], "--window expects a length, as 10ms, 500us or 1s, got 'soon'"),
        (["--window", "0ms"], "--window expects a length"),
        (["--window", "1ms", "--format", "evt4"], "--format expects one of evt2, evt21, evt3, events"),
        (["--window", "1ms", "--sensor", "12"], "--sensor expects WxH"),
        (["--encoder", "FILE"], "unknown encoder 'Camera'"),
        (["--encoder", "IMAGES"], "images.json: is an encoder of images, expected one of a camera"),
    ],
)
def test_usage(options, message, saved, path, tmp_path, capsys):
    from eventsnn import cli

    (tmp_path / "wrong.json").write_text('{"type": "Camera"}')
    images = es.encode.mozafari2019_mnist().to_dict()
    (tmp_path / "images.json").write_text(json.dumps(images))
    files = {"FILE": tmp_path / "wrong.json", "IMAGES": tmp_path / "images.json"}
    given = [str(files.get(option, option)) for option in options]
    with pytest.raises(SystemExit) as left:
        cli.main(["live", str(path), "--network", str(saved), *given])
    assert left.value.code == 2
    assert message in capsys.readouterr().err
