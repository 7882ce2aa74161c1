"""Files to write: checked before any work, made under a hidden name beside their place, and named as the user did."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hidden_beside(path: Path) -> Path:
    """Return a new name in the same folder, for what is not complete yet."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextmanager
def shown_as(hidden: Path, path: Path) -> Iterator[None]:
    """Let errors of the system name ``path`` where they name what is ``hidden``, or lies in it."""
    try:
        yield
    except OSError as error:
        if not any(str(hidden) in str(text) for text in (error, error.filename)):
            raise
        if error.errno:
            name = str(error.filename or path).replace(str(hidden), str(path))
            raise OSError(error.errno, os.strerror(error.errno), name) from error
        raise OSError(str(error).replace(str(hidden), str(path))) from error


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
    hidden = hidden_beside(target)
    with shown_as(hidden, target):
        hidden.touch(exist_ok=False)  # permissions say too little: some folders refuse even those who have them
        hidden.unlink()
