"""``eventsnn live``: a network on a stream of events, a line for each window."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventsnn.arguments import check_backend, one_of, parse_size
from eventsnn.console import Debug, FlipX, FlipY, SwapPolarity, SwapXY, UsageError, one_line_errors, printable

if TYPE_CHECKING:
    from eventsnn.encode import CameraEncoder, WindowChannels
    from eventsnn.network import Network
    from eventsnn.readout import FittedReadout
    from eventsnn.realtime import Live, LiveWindow

EPILOG = "Example: eventsnn live tcp://camera:5000 --network net.h5 --window 10ms --format evt3 --sensor 640x480"
_UNITS = {"us": 1, "": 1, "ms": 1000, "s": 1_000_000}


def live(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A recording, converted or not; '-', which is standard input; or tcp://HOST:PORT.",
        ),
    ],
    network: Annotated[
        Path, typer.Option("--network", metavar="FILE", help="What Network.save wrote, or the folder of a run.")
    ],
    window: Annotated[
        str,
        typer.Option(
            metavar="LENGTH",
            help="Of a window, from the first event on: 10ms, 500us, 1s. Default: the encoder's windows; those of "
            "nmnist begin where the camera's clock shows multiples of 105 ms, but not before the first event.",
        ),
    ] = "",
    encoder: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="An event file that an encoder of recordings made, or a JSON file of its to_dict(). Default: the "
            "run's, else every event at its time in the window.",
        ),
    ] = "",
    format_: Annotated[
        str, typer.Option("--format", metavar="NAME", help="evt2, evt21, evt3 or events, where there is no header.")
    ] = "",
    sensor: Annotated[
        str, typer.Option(metavar="WxH", help="Its width and height, where no header has them, before --swap-xy.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", metavar="", help="Wait for the file to grow.")] = False,
    swap_xy: SwapXY = None,
    flip_x: FlipX = None,
    flip_y: FlipY = None,
    swap_polarity: SwapPolarity = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", metavar="", help="Print a JSON object for each window, and one in the end."),
    ] = False,
    debug: Debug = False,
) -> None:
    """Run a network on each window of a stream as it comes, until it ends or Ctrl-C.

    Each line has the window's number and start, its events, the decision
    (-1: silent), and the time from the arrival of the event that ends the
    window to the decision, of which so much in the network.
    """
    with one_line_errors("eventsnn live", debug or context.obj):
        from eventsnn.io.feed import FEED_FORMATS
        from eventsnn.realtime import live as run

        check_backend()
        chosen = _encoder(encoder, window, network)
        name = one_of(format_, FEED_FORMATS, "--format") if format_ else None
        net, readout = _network(network)
        size = parse_size(sensor, "--sensor", "640x480", "WxH")
        turned = {"swap_xy": swap_xy, "flip_x": flip_x, "flip_y": flip_y, "swap_polarity": swap_polarity}
        with run(source, net, chosen, readout, follow=follow, format=name, sensor=size, **turned) as windows:
            total = _watched(windows, _print_json if as_json else _print_line)
            total |= {"lost": windows.report.dropped}
            if as_json:
                print(json.dumps(total), flush=True)
            else:
                print(_summary(total), flush=True)


@dataclass
class _Sums:
    windows: int = 0
    events: int = 0
    latency: float = 0.0
    longest: float = 0.0
    network: float = 0.0

    def add(self, window: LiveWindow) -> None:
        self.windows += 1
        self.events += window.events.n_events
        self.latency += window.latency
        self.longest = max(self.longest, window.latency)
        self.network += window.network_seconds


def _watched(windows: Live, tell: Any) -> dict[str, Any]:
    """Tell each window until they end or somebody interrupts, and return what there was in all."""
    sums, begun = _Sums(), time.perf_counter()
    try:
        for window in windows:
            sums.add(window)
            tell(window)
    except KeyboardInterrupt:  # the usual end of what has none
        pass
    n = max(sums.windows, 1)
    return {
        "windows": sums.windows,
        "events": sums.events,
        "seconds": time.perf_counter() - begun,
        "latency": {"mean": sums.latency / n, "longest": sums.longest},
        "network_seconds": sums.network / n,
    }


def _print_line(window: LiveWindow) -> None:
    times = f"{1000 * window.latency:9.2f} ms, {1000 * window.network_seconds:.2f} of it in the network"
    events = f"{window.events.n_events:>9,} spikes"
    print(f"{window.index:>6}  {window.start:>14,} us {events}  decision {window.decision:>3} {times}", flush=True)


def _print_json(window: LiveWindow) -> None:
    names = ("index", "start", "length", "decision", "latency", "network_seconds")
    fields = {name: getattr(window, name) for name in names} | {"spikes": window.events.n_events}
    print(json.dumps(fields), flush=True)


def _summary(total: dict[str, Any]) -> str:
    latency = total["latency"]
    lost = "".join(f"; lost {count:,} {what}" for what, count in total["lost"].items())
    return (
        f"{total['windows']:,} windows, {total['events']:,} spikes in {total['seconds']:.1f} s; latency "
        f"{1000 * latency['mean']:.2f} ms on average, {1000 * latency['longest']:.2f} ms at most{lost}"
    )


def _network(path: Path) -> tuple[Network, FittedReadout | None]:
    from eventsnn.network import Network
    from eventsnn.readout import FittedReadout

    if not path.is_dir():
        return Network.load(path), None
    readout = path / "readout.h5"
    return Network.load(path / "network.h5"), FittedReadout.load(readout) if readout.is_file() else None


def _encoder(path: str, window: str, network: Path) -> CameraEncoder | WindowChannels:
    """Return the encoder that is named, or that of a run, with other windows if they are given."""
    from eventsnn.encode import ByTime, CameraEncoder, EveryEvent, WindowChannels

    cut = ByTime(_microseconds(window)) if window else None
    found = _named(path) if path else _kept(network / "model.json")
    if found is None:
        if cut is None:
            raise UsageError("--window or --encoder has to be given")
        return CameraEncoder(cut, EveryEvent())
    if cut is None:
        return found
    if isinstance(found, WindowChannels):
        return replace(found, encoder=replace(found.encoder, cut=cut))
    return replace(found, cut=cut)


def _named(path: str) -> CameraEncoder | WindowChannels:
    try:
        if (recorded := _recorded(Path(path))) is None:
            raise ValueError("names no encoder")
        found = _of_camera(recorded)
    except ValueError as error:
        raise UsageError(f"--encoder {printable(path)}: {error}") from None
    if found is None:
        raise UsageError(f"--encoder {printable(path)}: is an encoder of images, expected one of a camera")
    return found


def _kept(model: Path) -> CameraEncoder | WindowChannels | None:
    """Return the encoder of a run, if it has one of a camera."""
    if not model.is_file():
        return None
    try:
        return _of_camera(json.loads(model.read_text(encoding="utf-8"))["encoder"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{model}: not the description of a model: {error}") from error


def _of_camera(plain: Any) -> CameraEncoder | WindowChannels | None:
    from eventsnn.encode import ImageEncoder
    from eventsnn.models.encoders import encoder_from_dict

    found = encoder_from_dict(plain)
    return None if isinstance(found, ImageEncoder) else found


def _recorded(path: Path) -> Any:
    from eventsnn.io import EventDataset

    with path.open("rb") as stream:
        is_json = stream.read(1) == b"{"
    if is_json:
        return json.loads(path.read_text(encoding="utf-8"))
    with EventDataset(path) as dataset:
        return dataset.provenance.get("encoder")


def _microseconds(text: str) -> int:
    found = re.fullmatch(r"(\d{1,12})(us|ms|s|)", text)
    if found is None or not (length := int(found[1]) * _UNITS[found[2]]):
        raise UsageError(f"--window expects a length, as 10ms, 500us or 1s, got {text!r}")
    return length
