"""The values that were used last, for threads."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def _one(_value: Any) -> int:  # noqa: ANN401 - whatever is kept
    return 1


class Recent(Generic[Key, Value]):
    """Keeps values of at most `most` weight; what was not used for the longest time goes.

    Each weighs 1 unless `weigh` says otherwise.
    """

    def __init__(self, most: int, weigh: Callable[[Value], int] = _one) -> None:
        self._most = most
        self._weigh = weigh
        self._weight = 0
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        """Return the value of `key`, None when it is not kept."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: Key, value: Value) -> None:
        """Keep `value` for `key`, in place of the one before."""
        with self._lock:
            before = self._values.pop(key, None)
            self._weight -= self._weigh(before) if before is not None else 0
            self._values[key] = value
            self._weight += self._weigh(value)
            while self._weight > self._most:
                _, gone = self._values.popitem(last=False)
                self._weight -= self._weigh(gone)
