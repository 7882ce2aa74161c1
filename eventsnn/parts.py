"""Several recordings converted by several processes, part by part, so that what was cut can be continued."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import eventsnn
from eventsnn.conversion import Account, Manner, Options, Source, Taken, described, naming, open_recording, total
from eventsnn.io import EventFileError
from eventsnn.io.samples_writer import SamplesWriter, merge
from eventsnn.processes import processes
from eventsnn.targets import replace_file
from eventsnn.train import Progress
from eventsnn.unfinished import locked

_FILES, _BYTES = 256, 64 << 20  # of a part at most, unless one file is larger
_LIST = "sources.json"


def parts_of(out: Path) -> Path:
    """Return the folder where a conversion keeps what it has until it has all."""
    return out.with_name(f"{out.name}.parts")


def convert_many(
    files: list[Source], classes: list[str], out: Path, options: Options, how: Manner, progress: Progress
) -> Account:
    """Convert files to the samples of one event file; see :func:`eventsnn.convert.convert`."""
    listed, folder = _listed(files, options), parts_of(out)
    with locked(out, "convert"):
        _begin(folder, out, listed, how)
        ranges = _ranges([entry["bytes"] for entry in listed["files"]])
        tasks = [_Task(folder / f"{a:06}.h5", files[a:b], a, options, how.skip_broken) for a, b in ranges]
        with _kept(folder):
            _run(tasks, min(how.jobs, len(tasks)), progress, len(files))
        account = total(_read_account(task.path) for task in tasks)
        if not account.files:
            path, reason = account.broken[0]
            raise EventFileError(f"this and all the others of {len(files)} files are broken: {reason}", path)
        _merge([task.path for task in tasks], out, options, {"classes": classes} if classes else {}, account, progress)
        shutil.rmtree(folder, ignore_errors=True)
    return account


def _merge(
    parts: list[Path], out: Path, options: Options, extra: dict[str, Any], account: Account, progress: Progress
) -> None:
    progress(0, 1, "compress")
    extra |= {**described(options), "conversion": account.stored()}
    source = f"{account.files + len(account.broken)} files"
    present = [part for part in parts if part.exists()]  # there is none of broken files only
    merge(present, out, compression=options.compression, source=source, extra=extra)
    progress(1, 1, "compress")


def _listed(files: list[Source], options: Options) -> dict[str, Any]:
    """Return what a conversion is of, as JSON values."""
    entries = []
    for source in files:
        found = os.stat(source.path)
        entries.append(
            {"path": source.path, "label": source.label, "bytes": found.st_size, "changed": found.st_mtime_ns}
        )
    return {"eventsnn": eventsnn.__version__, **json.loads(json.dumps(described(options))), "files": entries}


def _begin(folder: Path, out: Path, listed: dict[str, Any], how: Manner) -> None:
    """Make the folder of parts, or find that it belongs to the same conversion.

    Raises
    ------
    ValueError
        If it does not, or nobody asked to continue.
    """
    if folder.is_dir() and not how.force:
        if not how.resume:
            raise ValueError(f"{folder}: a conversion to {out} was cut; --resume continues it, --force begins anew")
        if (known := folder / _LIST).is_file():
            _check_same(known, listed)
            return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    replace_file(folder / _LIST, (json.dumps(listed, indent=1) + "\n").encode())


def _check_same(known: Path, listed: dict[str, Any]) -> None:
    try:
        then = json.loads(known.read_text(encoding="utf-8"))
        old, new = ({entry["path"]: entry for entry in side["files"]} for side in (then, listed))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{known}: not the list of a conversion ({error}); --force begins anew") from None
    differing = [name for name in ("eventsnn", "options") if then.get(name) != listed[name]]
    differing += [path for path in old | new if old.get(path) != new.get(path)]
    if list(old) != list(new):
        differing.append("the order of files")
    if differing:
        shown = ", ".join(differing[:3])
        raise ValueError(f"{known}: of another conversion than this one, with other {shown}; --force begins anew")


def _ranges(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """Cut files of these sizes into parts, the same for any number of processes."""
    start = held = 0
    for i, size in enumerate(sizes):
        if i > start and (i - start >= _FILES or held + size > _BYTES):
            yield start, i
            start, held = i, 0
        held += size
    yield start, len(sizes)


@contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """If the block is cut, keep what is done, but no folder in which nothing is; say what helps with broken files."""
    try:
        yield
    except BaseException as error:
        done = len(list(folder.glob("*.json"))) > 1
        if not done:
            shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, EventFileError):
            raise
        again = f"; {folder} holds what is done, --resume continues" if done else ""
        raise EventFileError(
            f"{error.reason} (--skip-broken leaves such files out{again})", error.path, error.offset
        ) from None


@dataclasses.dataclass(frozen=True)
class _Task:
    """Files that become one part."""

    path: Path
    files: list[Source]
    first: int
    options: Options
    skip_broken: bool


def _account_path(part: Path) -> Path:
    return part.with_suffix(".json")


def _read_account(part: Path) -> Account:
    return Account(**json.loads(_account_path(part).read_text(encoding="utf-8")))


def _run(tasks: list[_Task], jobs: int, progress: Progress, n_files: int) -> None:
    """Do what is not done yet."""
    left = [task for task in tasks if not _account_path(task.path).is_file()]
    done = n_files - sum(len(task.files) for task in left)
    progress(done, n_files, "convert")
    if jobs == 1:
        for task in left:
            work(task)
            done += len(task.files)
            progress(done, n_files, "convert")
        return
    with processes(jobs) as pool:
        running = {pool.submit(work, task): task for task in left}
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                done += len(running.pop(future).files)
                future.result()
            progress(done, n_files, "convert")


def work(task: _Task) -> None:
    """Convert the files of a part; what broken ones there are, is left out or raised.

    The part is written first, then its account, which says that it is complete. What follows a broken file has been
    written after a part of it, so the part begins anew without it.
    """
    broken: dict[str, str] = {}
    while True:
        files = [(task.first + i, source) for i, source in enumerate(task.files) if source.path not in broken]
        try:
            account = _write(task, files) if files else Account()
            break
        except EventFileError as error:
            if not task.skip_broken or str(error.path) not in {source.path for _, source in files}:
                raise
            broken[str(error.path)] = error.reason
    account.broken = list(broken.items())
    replace_file(_account_path(task.path), (json.dumps(dataclasses.asdict(account)) + "\n").encode())


def _write(task: _Task, files: list[tuple[int, Source]]) -> Account:
    options = task.options
    recordings = [open_recording(source.path, options) for _, source in files]
    sensors = [options.extract.sensor(r.width or 1, r.height or 1) for r in recordings]
    width, height = (max(sizes) for sizes in zip(*sensors, strict=True))
    labelled, grouped = task.files[0].label is not None, options.window is not None
    time = options.extract.time
    duration = None if grouped or time is None or time[1] is None else time[1] - time[0]
    accounts = []
    written: dict[str, Any] = {
        "window": options.window,
        "duration": duration,
        "hold": options.hold,
        "compression": "none",
    }
    with SamplesWriter(task.path, width, height, labelled=labelled, grouped=grouped, **written) as samples:
        for (number, source), recording in zip(files, recordings, strict=True):
            account = Account(files=1)
            with naming(source.path):
                chunks = Taken(recording, options, account, lambda *_: None)
                account.samples = samples.add(chunks, start=chunks.limits[0], label=source.label or 0, group=number)
            accounts.append(account)
    return total(accounts)
