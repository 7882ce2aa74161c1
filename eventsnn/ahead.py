"""Reading ahead: the next item is made while the one before it is in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from threading import Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class _Coming(Generic[T]):
    """The next item of an iterator, in the making."""

    def __init__(self, source: Iterator[T]) -> None:
        self._source, self._items = source, list[T]()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._make, name="eventsnn-read-ahead")
        self._thread.start()

    def _make(self) -> None:
        try:
            self._items.extend(item for _, item in zip(range(1), self._source, strict=False))
        except BaseException as error:
            self._error = error

    def get(self) -> list[T]:
        """Wait; return a list of the item, empty if there is none, or raise what making it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._items

    def wait(self) -> None:
        """Wait, whatever comes."""
        self._thread.join()


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield items in order; while the caller works on one, a thread makes the next.

    At most one item waits. Each has a thread of its own, which ends with it: none is left when the caller stops early.
    What making an item raises comes up in its place.
    """
    source = iter(items)
    coming = _Coming(source)
    try:
        while item := coming.get():
            coming = _Coming(source)
            yield item.pop()
    finally:
        coming.wait()
