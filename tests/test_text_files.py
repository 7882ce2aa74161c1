"""Events in text: separators, names, numbers, and broken files."""

import numpy as np
import pytest
from event_files import events
from hypothesis import example, given, settings
from hypothesis import strategies as st

import eventsnn as es
from eventsnn.io import open_text
from eventsnn.io.recording import CUT_END, OUTSIDE

SAMPLE = [(5, 1, 2, 0), (900, 345, 0, 1), (900, 0, 259, 1), (40_000, 9, 9, 0), (40_001, 9, 10, 1)]
NO_TIME = "events without a time that can be"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Return a function that puts text or bytes into a file, whose name says nothing."""
    path = tmp_path_factory.mktemp("files") / "recording"

    def put(content):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put


def drained(recording, size=1 << 16):
    stream = recording.chunks(size)
    return [event for chunk in stream for event in chunk.to_structured().tolist()], stream.report


def lines(found, order="txyp", separator=" ", end="\n", head=""):
    cells = [[str(event["txyp".index(k)]) if k != "_" else "7.5" for k in order] for event in found]
    return head + "".join(separator.join(row) + end for row in cells)


def seconds(found):
    return "".join(f"{t // 10**6}.{t % 10**6:06d} {x} {y} {p}\n" for t, x, y, p in found)


LAYOUTS = {
    "spaces": lines,
    "commas": lambda e: lines(e, separator=","),
    "semicolons, CRLF": lambda e: lines(e, separator=" ; ", end=" \r\n"),
    "tabs": lambda e: lines(e, separator="\t"),
    "e2vid": lambda e: "346 260\n" + seconds(e),
    "names": lambda e: lines(e, "xytp", ",", head="x,y,timestamp,polarity\n"),
    "names of a table with numbers of rows": lambda e: lines(e, "_pyxt", ",", head=',p,"y","x","t"\n'),
    "names in a comment": lambda e: lines(e, "ptyx", head="# events\n\n# p t y x\n"),
    "comments": lambda e: lines(e[:2], head="% a\n#\n") + "\n# more 1 2 3\n" + lines(e[2:]),
    "signs": lambda e: "".join(f"+{t} {x} {y} {2 * p - 1}\n" for t, x, y, p in e),
    "words": lambda e: "".join(f"{t},{x},{y},{p > 0}\n" for t, x, y, p in e),
    "numpy": lambda e: "".join(f"{t / 1e6:.18e} {x:.18e} {y:.18e} {p:.18e}\n" for t, x, y, p in e),
    "byte order mark": lambda e: "\ufeff" + lines(e),
}


@pytest.mark.parametrize("name", list(LAYOUTS))
@pytest.mark.parametrize("is_open", [True, False])
@settings(max_examples=30)
@given(data=st.data(), size=st.integers(1, 40))
def test_what_is_written_is_read(file, name, is_open, data, size):
    expected = [*SAMPLE, *data.draw(events(346, 260, start=100_000))]
    content = LAYOUTS[name](expected)
    recording = es.open(file(content.rstrip() if is_open else content))
    assert (recording.format, recording.sensor) == ("text", (346, 260) if name == "e2vid" else None)
    found, report = drained(recording, size)
    assert found == expected
    assert (report.dropped, report.skipped) == ({}, {})


@given(st.lists(st.integers(0, 10**12), min_size=5, max_size=50), st.integers(1, 9))
def test_lines_that_lie_across_blocks(file, times, size):
    """More than the reader holds at once, at other places each time."""
    expected = [(t, i % 346, i % 260, i % 2) for i, t in enumerate(sorted(times) * 20)]
    padded = "".join(f"{t}{' ' * (t % 90)} {x} {y} {p}\n" for t, x, y, p in expected)
    assert drained(open_text(file(padded), columns="txyp"), size)[0] == expected


@pytest.mark.parametrize(("unit", "text", "expected"), [
    (None, "12", 12), (None, "12.0", 12_000_000), (None, "1.2e-5", 12), (None, ".0000124", 12),
    (None, "12E3", 12 * 10**9),
    ("us", "12.5", 13), ("us", "-12.5", -12), ("us", "12.499999999999999999", 12), ("ns", "12499", 12),
    ("ms", "12.3456", 12346),
    ("s", "1600000000.123456", 1_600_000_000_123_456), ("us", "1605537493718345", 1_605_537_493_718_345),
    ("us", "123456789012345678901e-6", 123_456_789_012_346), ("us", "4e18", 4 * 10**18),
    ("us", "0e999999", 0), ("us", "5e-400", 0),
])  # fmt: skip
def test_times(file, unit, text, expected):
    assert drained(open_text(file(f"{text} 3 4 1\n"), unit=unit))[0] == [(expected, 3, 4, 1)]


@given(st.floats(-1e6, 1e6))
def test_seconds_are_rounded_to_microseconds(file, time):
    [(found, *_)], _ = drained(open_text(file(f"{time!r} 3 4 1\n"), unit="s"))
    assert abs(found - time * 1e6) <= 0.5 + 1e-3


@pytest.mark.parametrize("order", ["xytp", "pyxt", "x_ytp", "__ptyx"])
def test_another_order_of_columns(file, order):
    path = file(lines(SAMPLE, order))
    assert drained(open_text(path, columns=order, unit="us"))[0] == SAMPLE


def test_seconds_may_begin_with_a_whole_one(file):
    assert drained(es.open(file("0 1 2 1\n1 1 2 1\n1.5 1 2 0\n")))[0] == [
        (0, 1, 2, 1),
        (10**6, 1, 2, 1),
        (1_500_000, 1, 2, 0),
    ]


def test_what_cannot_be_an_event_is_counted(file):
    content = "5 1 2 1\n6 -1 2 1\n7 1 65536 0\n9 1 1e30 0\n1e30 1 2 1\n-1e999 1 2 0\n8 3 4 0\n"
    found, report = drained(open_text(file(content), unit="us"))
    assert found == [(5, 1, 2, 1), (8, 3, 4, 0)]
    assert report.dropped == {OUTSIDE: 3, NO_TIME: 2}


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        ("5 1 2 1\n" * 300 + "6 1 2\n", 2400, "as many numbers as the first one"),
        ("5 1 2 1\n" * 300 + "6 1 2 1 0\n", 2400, "as many numbers as the first one"),
        ("5 1 2 1\n" * 300 + "6 1 2 one\n", 2400, "as many numbers as the first one"),
        ("5 1 2 1\n" * 300 + "6 1 2x 1\n", 2400, "as many numbers as the first one"),
        ("5 1 2 1\n" * 300 + "6 1 2 -\n", 2400, "as many numbers as the first one"),
        ("5 1 2 1\n" * 300 + "6 1 2 t\n4 1 1 1\n", 2400, "as many numbers as the first one"),
        ("5 1 2 1\n6 1 2.5 1\n", 8, "whole numbers as coordinates"),
        ("5 1 2 1\n6 1 2 7\n", 8, "a polarity of -1, 0 or 1"),
        ("5 1 2 1\n6 1 2 0.5\n", 8, "a polarity of -1, 0 or 1"),
        ("5 1 2 1\n" + " " * 9000, 8, "lines of at most 4096 bytes"),
        ("5 1 2 1 9\n", 0, "found 5 numbers; columns= says what they are"),
        (lines(SAMPLE * 10, "xytp"), 0, "expected times in the first column"),
    ],
)
def test_lines_that_cannot_be(file, content, place, message):
    path = file(content)
    with pytest.raises(es.EventFileError) as caught:
        drained(es.open(path))
    assert message in str(caught.value)
    assert (caught.value.path, caught.value.offset) == (path, place)


@pytest.mark.parametrize(
    "content", ["to be or not to be\n", "1 2 3\n4 5 6\n", "346 260\n", "# t x\n", "\n\n", "1 2 3 4\n1 2\n"]
)
def test_other_text_is_no_recording(file, content):
    with pytest.raises(es.EventFileError, match="is of no known format"):
        es.open(file(content))


def test_names_without_events(file):
    assert len(es.open(file("t,x,y,p\n")).read()) == 0
    assert len(es.open(file("346 260\nx y p t\n")).read()) == 0


@pytest.mark.parametrize("options", [{"columns": "txy_"}, {"columns": "txyp_"}, {"unit": "h"}])
def test_options_that_cannot_be(file, options):
    with pytest.raises(ValueError, match=r"(columns|unit) expects .* got"):
        open_text(file(lines(SAMPLE)), **options)


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_a_file_cut_anywhere(file, name):
    content = LAYOUTS[name](SAMPLE).encode()
    for end in range(len(content)):
        try:
            found, report = drained(es.open(file(content[:end])), 2)
        except es.EventFileError:
            continue
        whole = content[:end].count(b"\n") if name in ("spaces", "tabs", "commas") else 0
        assert found[:whole] == SAMPLE[:whole]
        assert len(found) <= len(SAMPLE)
        assert set(report.dropped) <= {CUT_END}


def check_outcome(path, size):
    """A file gives events, or one error that names it."""
    error = None
    try:
        for chunk in es.open(path).chunks(size):
            assert 1 <= len(chunk) <= size
            assert {len(column) for column in (chunk.x, chunk.y, chunk.p)} == {len(chunk)}
            assert chunk.p.max() <= 1
    except es.EventFileError as caught:
        error = caught
    assert error is None or (error.path == path and str(path) in str(error))


@pytest.mark.parametrize("name", list(LAYOUTS))
@settings(max_examples=60)
@given(data=st.data(), size=st.integers(1, 100))
def test_damaged_files(file, name, data, size):
    content = bytearray(LAYOUTS[name](SAMPLE * 2).encode())
    for _ in range(data.draw(st.integers(0, 6), "flips")):
        place = data.draw(st.integers(0, 8 * len(content) - 1), "bit")
        content[place // 8] ^= 1 << place % 8
    check_outcome(file(bytes(content[: data.draw(st.integers(0, len(content)), "end")])), size)


@given(st.text("0123456789 .,-+eE#\ntruefalsx", max_size=200), st.integers(1, 9))
@example("1 2 3 1e", 1)
@example("9" * 400 + " 2 3 1", 1)
def test_any_text_after_a_line(file, rest, size):
    check_outcome(file("5 1 2 1\n" + rest), size)


def test_it_reads_what_numpy_writes(tmp_path):
    table = np.array(SAMPLE)
    np.savetxt(tmp_path / "a.csv", table, fmt="%d", delimiter=",", header="t,x,y,p")
    np.savetxt(tmp_path / "b.txt", table)
    assert drained(es.open(tmp_path / "a.csv"))[0] == SAMPLE
    assert drained(open_text(tmp_path / "b.txt", unit="us"))[0] == SAMPLE
