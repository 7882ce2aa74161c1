"""The command ``eventsnn encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventsnn.arguments import IMAGES, NAMES, RECORDINGS, Split, chosen_part, default_encoder, named_encoder, parse_size
from eventsnn.console import Debug, FlipX, FlipY, SwapPolarity, SwapXY, UsageError, one_line_errors, phases, printable


def encode(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=f"Images: {IMAGES}. {RECORDINGS}; or one.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.h5", help="File to make or replace.")],
    encoder: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"mozafari2018, or a model to encode for: {NAMES}; the .toml file of one; an event file, to encode "
            "as it is; or a .json file of an encoder's to_dict(). Default: digits for the digits, nmnist for "
            "recordings, else mozafari2019_mnist.",
        ),
    ] = "",
    split: Split = "",
    size: Annotated[
        str,
        typer.Option(
            metavar="HxW",
            help="Rescale the images; of a sensor, where recordings do not say. Default: as the model takes them.",
        ),
    ] = "",
    swap_xy: SwapXY = None,
    flip_x: FlipX = None,
    flip_y: FlipY = None,
    swap_polarity: SwapPolarity = None,
    debug: Debug = False,
) -> None:
    """Encode images or recordings as spikes into an event file (HDF5)."""
    with one_line_errors("eventsnn encode", debug or context.obj):
        from eventsnn.camera_sources import find_recordings, write_recordings
        from eventsnn.encode import ImageEncoder
        from eventsnn.sources import read_images, write_encoded
        from eventsnn.targets import check_target

        name = encoder or default_encoder(source)
        value, usual = named_encoder(name)
        part = chosen_part(split, source)
        if part != "train" and isinstance(value, ImageEncoder) and not value.fitted:
            raise UsageError(f"{name} is fitted to training images: encode these, then give their file as --encoder")
        given = parse_size(size)
        options = {"swap_xy": swap_xy, "flip_x": flip_x, "flip_y": flip_y, "swap_polarity": swap_polarity}
        turned = {name: value for name, value in options.items() if value is not None}
        if turned and isinstance(value, ImageEncoder):
            raise UsageError("--swap-xy, --flip-x, --flip-y and --swap-polarity expect recordings of a camera")
        check_target(out)
        with phases() as progress:
            if isinstance(value, ImageEncoder):
                images = read_images(source, part, given or usual, progress)
                height, width = images.pixels.shape[1:]
                found = f"{images.source}: {len(images):,} images of {height}x{width} pixels"
                print(f"{printable(found)}, encoder {name}", flush=True)
                write_encoded(out, images, value, progress)
            else:
                recordings = find_recordings(source, part)
                found = f"{recordings.name}: {len(recordings.paths):,} recordings"
                print(f"{printable(found)}, encoder {name}", flush=True)
                write_recordings(out, recordings, value, given, progress, turned=turned)
        print(f"Written: {out}")
