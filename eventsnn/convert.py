"""Recordings of any format become one event file: a long recording, or samples, file by file or cut into windows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eventsnn.conversion import Account, Manner, Options, Source, Taken, described, naming, open_recording
from eventsnn.io import RecordingWriter
from eventsnn.io.samples_writer import SamplesWriter
from eventsnn.parts import convert_many
from eventsnn.targets import check_target
from eventsnn.threads import default_threads
from eventsnn.train import Progress

__all__ = ["Account", "Options", "convert", "find_sources"]


def convert(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: Options | None = None,
    *,
    jobs: int | None = None,
    skip_broken: bool = False,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Account:
    """Convert recordings to one event file.

    One file becomes one long recording with an index (:class:`~eventsnn.io.RecordingWriter`), or with a ``window`` the
    samples that it is cut into. Several files become a sample each, or each the samples that it is cut into, which
    are one group then. Of a folder all files are taken that are not hidden; those in its folders have the folder's name
    as class, numbered in the order of names (of numbers, where all are).

    Parameters
    ----------
    sources : sequence of path
        Files, or one folder.
    out : path
        The event file to make or replace. ``out`` with ``.parts`` keeps what several files have become until all have.
    options : Options, optional
        How.
    jobs : int, optional
        Processes that share several files. Default: as many as there are processors.
    skip_broken : bool
        Leave files out that cannot be read, and say so in the account. Default: the first is an error.
    resume : bool
        Continue a conversion of several files that was cut; begin if there is none.
    force : bool
        Begin anew where one was cut.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.

    Returns
    -------
    Account
        What became of the events; the file has it as ``extra.conversion``.

    Raises
    ------
    EventFileError
        If a file is broken (see ``skip_broken``), or its events cannot be sorted.
    ValueError
        If sources or options do not fit, or a conversion that was cut was of others.
    OSError
        If a file cannot be read or written.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs expects at least 1, got {jobs}")
    options = options or Options()
    files, classes = find_sources(sources)
    check_target(out)
    if len(files) == 1 and not classes:
        return _convert_one(files[0], Path(out), options, progress or _silent)
    how = Manner(jobs or default_threads(), skip_broken, resume, force)
    return convert_many(files, classes, Path(out), options, how, progress or _silent)


def find_sources(sources: Sequence[str | os.PathLike[str]]) -> tuple[list[Source], list[str]]:
    """Return the files that are meant, and the names of their classes, if there are any.

    Raises
    ------
    ValueError
        If a folder is one of several sources, or holds no file, or files and folders of files.
    """
    paths = [Path(source).absolute() for source in sources]
    folders = [path for path in paths if path.is_dir()]
    if not folders:
        return [Source(str(path)) for path in paths], []
    if len(paths) > 1:
        raise ValueError(f"sources expect files or one folder, got the folder {folders[0]} and {len(paths) - 1} more")
    shown = [path for path in folders[0].iterdir() if not path.name.startswith(".")]
    inside, files = [path for path in shown if path.is_dir()], [path for path in shown if not path.is_dir()]
    if inside and files:
        raise ValueError(f"{folders[0]}: expected files, or one folder for each class, found both ({files[0].name})")
    if not inside:
        found, classes = [Source(str(path)) for path in sorted(files, key=_natural)], []
    else:
        inside.sort(key=_natural)
        classes = [path.name for path in inside]
        found = [Source(str(path), label) for label, folder in enumerate(inside) for path in _files(folder)]
    if not found:
        raise ValueError(f"{folders[0]}: expected recordings, or one folder of them for each class, found none")
    return found, classes


def _files(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=_natural)


def _natural(path: Path) -> tuple[int, str]:
    """Sort whole numbers by value, before other names."""
    stem = path.stem if path.is_file() else path.name
    return (int(stem), path.name) if stem.isdecimal() else (1 << 62, path.name)


def _convert_one(source: Source, out: Path, options: Options, progress: Progress) -> Account:
    recording = open_recording(source.path, options)
    account = Account(files=1)
    chunks = Taken(recording, options, account, progress)
    width, height = chunks.sensor
    extra: dict[str, Any] = {"conversion": {}, **described(options), "format": recording.format}
    extra["metadata"] = {name[:200]: text[:500] for name, text in list(recording.metadata.items())[:40]}
    about: dict[str, Any] = {"source": recording.path.name, "extra": extra, "compression": options.compression}
    with naming(source.path):
        if options.window is not None:
            with SamplesWriter(out, width, height, window=options.window, hold=options.hold, **about) as samples:
                account.samples = samples.add(chunks, start=chunks.limits[0])
                extra["conversion"] = account.stored()
        else:
            start, stop = chunks.limits
            with RecordingWriter(out, width, height, hold=options.hold, start=start, stop=stop, **about) as writer:
                for chunk in chunks:
                    writer.append(chunk)
                account.samples = 1
                extra["conversion"] = account.stored()
    return account


def _silent(done: int, total: int, phase: str) -> None:
    pass
