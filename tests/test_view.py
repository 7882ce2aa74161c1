"""Windows of events counted by definition, and what contact sheets, animations and ``eventsnn view`` make of them."""

import io
import shutil
import subprocess
from functools import partial

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import eventsnn as es
from eventsnn import plot
from eventsnn.plot import Choice, film
from eventsnn.plot.view import describe, picture


def some_events(unit="us", n_samples=3, duration=1000, shape=(2, 6, 8), seed=0, labels=None):
    rng = np.random.default_rng(seed)
    n = 400 * n_samples
    columns = [rng.integers(0, high, n) for high in (duration, *shape)]
    offsets = np.linspace(0, n, n_samples + 1).astype(int)
    return es.Events.from_columns(*columns, shape=shape, offsets=offsets, duration=duration, unit=unit, labels=labels)


def counted(events, start, stop, scale=1):
    """Return how many events of one sample lie in a window, event by event."""
    channels, height, width = events.shape
    counts = np.zeros((channels, -(-height // scale), -(-width // scale)), int)
    for t, c, y, x in zip(events.time, events.channel, events.y, events.x, strict=True):
        counts[c, y // scale, x // scale] += start <= t < stop
    return np.minimum(counts, 255)


@given(
    st.integers(1, 400),
    st.integers(1, 9),
    st.integers(0, 500),
    st.integers(501, 1200),
    st.booleans(),
    st.integers(2, 9),
)
def test_windows_hold_what_lies_in_them(window, windows, start, stop, follow, side):
    events = some_events()
    found = film(events, Choice((start, stop), window, windows, follow), samples=[2, -3], side=side)
    span, scale = min(stop, 1000) - start, -(-8 // side)
    length = min(window, span)
    assert (found.span, found.length, found.scale) == ((start, min(stop, 1000)), length, scale)
    assert len(found.starts) == min(windows, -(-span // length))
    assert found.names == ("sample 2", "sample 0")
    for sample, frames in zip((2, 0), found.counts, strict=True):
        for first, frame in zip(found.starts, frames, strict=True):
            assert np.array_equal(frame, counted(events[sample], first, min(first + length, stop), scale))
    gaps = np.diff(found.starts)
    if follow:
        assert (gaps == length).all()
    elif len(gaps):
        assert found.starts[0] == start
        assert gaps.min() >= length or len(found.starts) * length >= span
        assert found.starts[-1] + length >= min(stop, 1000)  # the windows reach from the beginning to the end


@pytest.mark.parametrize("follow", [False, True])
def test_every_kind_of_source_gives_the_same(tmp_path, follow):
    events = some_events(n_samples=1)
    structured = events.to_structured()[0]
    np.save(tmp_path / "events.npy", structured)
    with es.EventWriter(tmp_path / "events.h5", events.shape, events.duration, "us") as writer:
        writer.append(events)
    begin = int(structured["t"].min())  # a recording's time begins with its first event
    choice, moved = Choice((100, 900), 150, 4, follow), Choice((100 - begin, 900 - begin), 150, 4, follow)
    expected = film(events, choice)
    with es.EventDataset(tmp_path / "events.h5") as dataset:
        assert np.array_equal(film(dataset, choice).counts, expected.counts)
    v2e = np.stack([structured[name].astype(np.uint32) for name in "txyp"], axis=1)
    with h5py.File(tmp_path / "v2e.h5", "w") as file:
        file["events"] = v2e
    seekable = es.open(tmp_path / "v2e.h5", width=8, height=6)
    assert seekable.seek is not None
    assert np.array_equal(film(seekable, moved).counts, expected.counts)
    recording = es.open(tmp_path / "events.npy")
    assert recording.width is None  # which only the events say
    found = film(recording, moved)
    assert np.array_equal(found.counts, expected.counts)
    assert np.array_equal(found.starts + begin, expected.starts)


def test_a_window_of_unsaid_length_is_made_for_the_events():
    sparse, dense = (film(some_events(n_samples=1, duration=d), Choice()) for d in (100, 100_000))
    assert sparse.counts.shape[1] == dense.counts.shape[1] == 12
    # 12 of 48 pixels, a quarter, are what 400 events do in 3 % of the time
    assert (sparse.length, dense.length) == (3, 3000)
    binned = film(some_events("bin", 1, 15), Choice())
    assert (binned.length, len(binned.starts)) == (2, 8)
    assert film(some_events("bin", 1, 15), Choice(follow=True)).starts.tolist() == list(range(15))


def test_samples_of_different_classes_are_chosen():
    labels = [3, 3, 1, 1, 2]
    assert film(some_events(n_samples=5, labels=labels)).names == (
        "sample 2, class 1",
        "sample 4, class 2",
        "sample 0, class 3",
    )
    assert film(some_events(n_samples=12)).names == tuple(f"sample {n}" for n in (0, 2, 4, 6, 8, 10))


def test_neurons_in_a_line_are_shown_over_time():
    events = es.Events.from_columns(
        [0, 99, 50], [0] * 3, [0] * 3, [0, 1, 699], shape=(1, 1, 700), duration=100, unit="us"
    )
    found = film(events, side=90)
    assert found.over_time
    assert found.counts.shape == (1, 1, 1, 88, 100)
    assert {tuple(place) for place in np.argwhere(found.counts[0, 0, 0])} == {(0, 0), (0, 99), (87, 50)}
    assert describe(found) == "sample 0: 700 neurons from top to bottom, 0 ms to 100 μs from left to right"
    with pytest.raises(ValueError, match="expects a grid of neurons"):
        plot.animate(found, "never.gif")


def test_more_than_255_events_are_255():
    events = es.Events.from_columns(np.arange(300), [0] * 300, [1] * 300, [1] * 300, shape=(1, 2, 2), unit="us")
    assert film(events, Choice(window=300)).counts.ravel().tolist() == [0, 0, 0, 255]


def test_film_refuses():
    events = some_events()
    with pytest.raises(IndexError, match="sample expects an index into 3 samples, got 3"):
        film(events, samples=[3])
    with pytest.raises(ValueError, match="time expects a part of 0 to 1000 us, got 1000 on"):
        film(events, Choice((1000, None)))
    with pytest.raises(ValueError, match="at least one sample, found none"):
        film(es.Events.empty((1, 2, 2)))
    for wrong in ({"window": 0}, {"windows": 0}):
        with pytest.raises(ValueError, match="expects at least 1, got 0"):
            Choice(**wrong)
    with pytest.raises(ValueError, match="0 <= start < stop, got 5 and 5"):
        Choice((5, 5))
    large = es.Events.empty((2, 300, 300), 1, duration=10_000, unit="us")
    with pytest.raises(ValueError, match="at most 512 MiB; 1 x 5000 windows of 300x300 pixels take 858 MiB"):
        film(large, Choice(window=1, windows=5000))


def test_colours_say_polarity_and_strength():
    counts = np.zeros((2, 1, 4), np.uint8)
    counts[0, 0] = [0, 4, 0, 1]
    counts[1, 0] = [0, 0, 8, 0]
    white, darker, brighter, faint = picture(counts, 4.0)[0].tolist()
    assert white == [255, 255, 255]
    assert darker == [0xD5, 0x5E, 0]
    assert brighter == [0, 0x72, 0xB2]
    share = 0.4 + 0.6 / 4
    assert faint == pytest.approx([255 + share * (c - 255) for c in darker], abs=1)


def test_a_contact_sheet_has_a_tile_for_each_window(tmp_path):
    found = film(some_events(labels=[5, 6, 7]), Choice(window=100, windows=4))
    axes = plot.contact_sheet(found)
    assert len(axes.images) == 12
    full = np.quantile((total := found.counts.sum(axis=2))[total > 0], 0.95)
    for image, counts in zip(axes.images, found.counts.reshape(12, 2, 6, 8), strict=True):
        assert np.array_equal(image.get_array(), picture(counts, full))
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["0 ms", "300 μs", "600 μs", "900 μs", *(f"sample {i}\nclass {i + 5}" for i in range(3))]
    assert axes.get_title("left") == "3 samples: 4 windows of 100 μs, from 0 ms to 1 ms"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["darker", "brighter"]
    given = plot.contact_sheet(found, ax=axes.figure.add_subplot())
    assert given is not axes
    assert len(given.images) == 12


def test_a_description_says_how_far_the_windows_reach():
    events = some_events(n_samples=1, duration=100_000)
    assert describe(film(events, Choice(window=100, follow=True))).endswith("from 0 ms to 20 ms of 100 ms")
    assert describe(film(events, Choice(window=100))).endswith("12 windows of 100 μs, from 0 ms to 100 ms")


def test_a_silent_film_is_white():
    axes = plot.contact_sheet(film(es.Events.empty((2, 4, 4), 1, duration=5)))
    assert {int(image.get_array().min()) for image in axes.images} == {255}


def test_a_gif_has_a_frame_for_each_window(tmp_path):
    found = film(some_events(n_samples=1), Choice(window=100, follow=True))
    plot.animate(found, tmp_path / "a.gif", fps=20)
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["duration"], gif.info["loop"]) == (10, 50, 0)
        assert gif.width % 2 == gif.height % 2 == 0
        frames = []
        for number in range(gif.n_frames):
            gif.seek(number)
            frames.append(np.asarray(gif.convert("RGB")))
    full = np.quantile((total := found.counts.sum(axis=2))[total > 0], 0.95)
    zoom = 80
    for frame, counts in zip(frames, found.counts[0], strict=True):
        middles = frame[-8 - 6 * zoom + zoom // 2 :: zoom, 8 + zoom // 2 :: zoom][:6, :8].astype(int)
        assert np.abs(middles - picture(counts, full)).max() < 12  # a GIF has 256 colours


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_an_mp4_has_a_frame_for_each_window(tmp_path):
    plot.animate(film(some_events(), Choice(window=100, follow=True)), tmp_path / "a.mp4")
    come = ["ffmpeg", "-loglevel", "error", "-i", str(tmp_path / "a.mp4"), "-f", "image2pipe", "-c:v", "ppm", "-"]
    frames = subprocess.run(come, capture_output=True, check=True).stdout
    with Image.open(io.BytesIO(frames)) as first:
        assert (
            len(frames) // 10
            == len(frames) / 10
            == first.width * first.height * 3 + len(f"P6\n{first.width} {first.height}\n255\n")
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_an_mp4_without_ffmpeg_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="expects the program ffmpeg, which was not found"):
        plot.animate(film(some_events()), tmp_path / "a.mp4")


def test_a_failing_ffmpeg_leaves_nothing(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no such codec >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="ffmpeg failed: no such codec"):
        plot.animate(film(some_events()), tmp_path / "out" / "a.mp4")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("name", "fps", "error"), [("a.avi", 10, "ends in .gif or .mp4"), ("a.gif", 0, "fps expects")])
def test_animate_refuses(tmp_path, name, fps, error):
    with pytest.raises(ValueError, match=error):
        plot.animate(film(some_events()), tmp_path / name, fps=fps)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def view(call, tmp_path, monkeypatch):
    """Return a function that runs ``eventsnn view`` where ``tmp_path`` is: code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    return partial(call, "view")


@pytest.fixture(scope="module")
def event_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("view") / "some.h5"
    with es.EventWriter(path, (2, 6, 8), 1000, "us") as writer:
        writer.append(some_events(labels=[0, 1, 1]))
    return path


def test_the_command_names_its_file_last(event_file, tmp_path, view):
    code, said, err = view(event_file, "--windows", "3", "--window", "200us")
    assert code == 0, err
    assert said.splitlines() == [
        "2 samples: 3 windows of 200 μs, from 0 ms to 1 ms",
        "Written: some.png",
    ]
    with Image.open(tmp_path / "some.png") as picture_:
        assert picture_.format == "PNG"
    _, said, _ = view(event_file, "--sample", "2", "--time", "500us,900us", "--window", "100us", "-o", "a.gif")
    assert said.splitlines()[0] == "sample 2, class 1: 4 windows of 100 μs, from 500 μs to 900 μs"
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 4


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["-o", "a.jpg"], 2, "--out expects a name that ends in .png, .gif or .mp4, got 'a.jpg'"),
        (["--window", "7"], 2, "--window expects a time with its unit"),
        (["--time", "5ms,2ms"], 2, "--time, --window, --windows: time expects 0 <= start < stop, got 5000 and 2000"),
        (["--sample", "9"], 2, "--sample: sample expects an index into 3 samples, got 9"),
        (["-o", "none/a.png"], 1, "lies in"),
        (["--flip-x"], 1, "expected a recording, found samples of a data set: 3 samples"),
    ],
)
def test_the_command_refuses_before_anything_is_written(event_file, tmp_path, view, arguments, code, error):
    found, _, err = view(event_file, *arguments)
    assert found == code
    assert len(err.splitlines()) == 1
    assert error in err
    assert not list(tmp_path.iterdir())


def test_bins_are_plain_numbers(tmp_path, view):
    with es.EventWriter(tmp_path / "bins.h5", (1, 4, 4), 15) as writer:
        writer.append(some_events("bin", 1, 15, (1, 4, 4)))
    _, said, _ = view("bins.h5", "--window", "2", "--time", "3,9", "-o", "b.png")
    assert said.splitlines()[0] == "sample 0: 3 windows of 2 bins, from bin 3 to bin 8"
    assert "--window expects a number of bins" in view("bins.h5", "--window", "2ms")[2]


def test_a_converted_recording_is_turned(tmp_path, view):
    events = some_events(n_samples=1)
    columns = (events.time, events.channel, events.y, 7 - events.x)
    mirrored = es.Events.from_columns(*columns, shape=events.shape, duration=1000, unit="us")
    pixels = []
    for value, option in ((events, "--flip-x"), (mirrored, "--no-flip-x"), (events, "--no-flip-x")):
        es.io.write(tmp_path / "one.h5", value)
        assert view("one.h5", "--time", "0us,900us", option)[0] == 0
        with Image.open(tmp_path / "one.png") as found:
            pixels.append(np.asarray(found))
    assert np.array_equal(pixels[0], pixels[1])
    assert not np.array_equal(pixels[0], pixels[2])


def test_recordings_of_cameras(data_path):
    for name in ("nmnist/Test/3/00045.bin", "events/tonic/sample.aedat4", "events/ne15/test.aedat"):
        recording = es.open(data_path / name)
        found = film(recording, Choice(follow=True))
        whole = recording.columns()
        t = whole.t - int(next(iter(recording.chunks())).t.min())
        in_all = found.starts[-1] + found.length
        assert int(found.counts.sum()) == np.count_nonzero((t >= 0) & (t < in_all))
        assert in_all > t.max() - 0.01 * t.max()
