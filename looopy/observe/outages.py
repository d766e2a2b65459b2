"""Says through logging what an exporter could not do, once for each kind of failure, and when it works again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from urllib.parse import urlsplit
from weakref import WeakSet

from looopy.observe.diagnosis import Failure

_log = logging.getLogger("looopy.observe")
_QUIET = 600.0  # seconds in which a kind of failure is not said again: a server may be on and off


class Outages:
    """Each kind of failure is said once, not for every batch, and once that it works again."""

    def __init__(self, name: str, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing said.

        Args:
            name: of the exporter.
            url: without credentials.
            clock: seconds.
        """
        self._name = name
        self._url = url
        self._clock = clock
        self._said: dict[str, float] = {}
        self._lost = 0
        self._announced = False
        _all.add(self)

    def concern(self, url: str) -> bool:
        """Whether it has been said that the server of this URL takes nothing, and not yet that it does again."""
        return self._announced and urlsplit(self._url).netloc == urlsplit(url).netloc

    def failed(self, failure: Failure) -> None:
        """Spans are lost, or something about them is worth a word."""
        self._lost += failure.spans
        if not self._new(failure.kind):
            return
        if not failure.spans:
            _log.warning("%s: %s", self._name, failure.words)
            return
        self._announced = True
        _log.warning(
            "%s: could not export %s to %s: %s (said once)",
            self._name,
            _counted(failure.spans),
            self._url,
            failure.words,
        )

    def worked(self) -> None:
        """A batch arrived, so an outage is over."""
        if self._announced:
            _log.warning(
                "%s: exported again to %s, after %s lost",
                self._name,
                self._url,
                f"{_counted(self._lost)} {'was' if self._lost == 1 else 'were'}",
            )
        self._lost, self._announced = 0, False

    def _new(self, kind: str) -> bool:
        now = self._clock()
        last = self._said.get(kind)
        if last is None or (not self._announced and now - last > _QUIET):
            self._said[kind] = now
            return True
        return False


_all: WeakSet[Outages] = WeakSet()


def is_known(url: str) -> bool:
    """Whether it has been said already that the server of this URL takes nothing."""
    return any(each.concern(url) for each in tuple(_all))


def _counted(spans: int) -> str:
    return "1 span" if spans == 1 else f"{spans} spans"
