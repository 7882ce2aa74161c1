"""Files to write: checked before any work, made under a hidden name beside their place, and named as the user did."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def hidden_beside(path: Path) -> Path:
    """Return a new name in the same folder, for what is not complete yet."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextmanager
def hidden(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """Yield a new, empty file or folder under a hidden name beside ``path``; if it still has it in the end, it goes.

    What killed processes left there goes too, see :func:`sweep`.

    Parameters
    ----------
    path : Path
        What it shall become, without links.
    folder : bool
        Whether to make a folder.

    Raises
    ------
    OSError
        If it cannot be made; the error names ``path``.
    """
    sweep(path)
    made, held = hidden_beside(path), None
    try:
        with shown_as(made, path):
            held = _make(made, folder)
        yield made
    finally:
        if folder:
            shutil.rmtree(made, ignore_errors=True)
        else:
            with suppress(OSError):  # what stopped the work is the news
                made.unlink(missing_ok=True)
        if held is not None:
            os.close(held)


def sweep(path: Path) -> None:
    """Remove what processes that were killed left hidden beside ``path``.

    Whoever makes something there has it locked, and the kernel unlocks what a process held that ends in whatever way.
    Where files cannot be locked, as on Windows, nothing is removed.
    """
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    with suppress(OSError):
        for left in [left for left in path.parent.iterdir() if name.fullmatch(left.name)]:
            _remove_abandoned(left)


def _remove_abandoned(left: Path) -> None:
    with suppress(OSError):
        if (held := _hold(left, wait=False)) is not None:
            try:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(held)


def _make(made: Path, folder: bool) -> int | None:
    """Make a file or folder, and return the descriptor that holds it."""
    while True:
        made.mkdir() if folder else made.touch(exist_ok=False)
        with suppress(FileNotFoundError):  # somebody swept it up before it was held
            held = _hold(made, wait=True)
            if made.exists():
                return held
            if held is not None:
                os.close(held)


def _hold(made: Path, *, wait: bool) -> int | None:
    """Lock a file or folder, and return the descriptor that does; None where there are no such locks.

    Raises
    ------
    BlockingIOError
        If another process holds it, unless it shall ``wait``.
    FileNotFoundError
        If it is not there.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    held = os.open(made, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(held)
        raise
    except OSError:
        os.close(held)
        return None
    return held


def replace_file(path: str | os.PathLike[str], content: bytes | memoryview) -> None:
    """Put a file in place of another: whole on the disk before it has the name, so that a crash leaves one of them.

    A link stays one, and its target is written.

    Raises
    ------
    OSError
        If it cannot be written; ``path`` is what it was before.
    """
    target = Path(os.path.realpath(path))
    with hidden(target) as beside:
        try:
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, target)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


def fsync(path: Path) -> None:
    """Wait until the disk has a file or folder."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def shown_as(made: Path, path: Path) -> Iterator[None]:
    """Let errors of the system name ``path`` where they name what is ``made`` for it, or lies in it."""
    try:
        yield
    except OSError as error:
        if not any(str(made) in str(text) for text in (error, error.filename)):
            raise
        if error.errno:
            name = str(error.filename or path).replace(str(made), str(path))
            raise OSError(error.errno, os.strerror(error.errno), name) from error
        raise OSError(str(error).replace(str(made), str(path))) from error


def check_folder(path: Path) -> None:
    """Refuse a file to write that is a folder, or lies in none.

    Raises
    ------
    ValueError
        If so.
    """
    if path.is_dir() or not path.parent.is_dir():
        problem = "is a folder" if path.is_dir() else f"lies in {path.parent}, which is no folder"
        raise ValueError(f"the file to write expects a name in an existing folder, but {path} {problem}")


def check_target(path: str | os.PathLike[str]) -> None:
    """Find out, before there is anything to write, whether a file can be made; an existing one is not touched.

    Raises
    ------
    ValueError
        As :func:`check_folder`.
    OSError
        If nothing can be written there.
    """
    target = Path(os.path.realpath(path))
    check_folder(target)
    made = hidden_beside(target)
    with shown_as(made, target):
        made.touch(exist_ok=False)  # permissions say too little: some folders refuse even those who have them
        made.unlink()
