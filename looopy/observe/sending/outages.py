"""Says through logging what an exporter could not do, once for each kind of failure, and when it works again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from urllib.parse import urlsplit
from weakref import WeakSet

from looopy.observe.sending.diagnosis import Failure

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
        self._announced = self._hopes = False
        self._losing = self._unreachable = False
        _all.add(self)

    def concern(self, url: str, *, unreachable: bool) -> bool:
        """Whether it has been said that the server of this URL takes nothing, or cannot be reached, and it has taken nothing since."""
        return (
            self._losing
            and (self._unreachable or not unreachable)
            and urlsplit(self._url).netloc == urlsplit(url).netloc
        )

    def hopes(self, failure: Failure, spans: int) -> None:
        """Spans could not be sent, and are tried again."""
        if self._new(failure.kind):
            self._hopes = True
            _log.warning(
                "%s: could not export %s to %s yet: %s Trying again (said once)",
                self._name,
                _counted(spans),
                self._url,
                failure.words,
            )

    def failed(self, failure: Failure) -> None:
        """Spans are lost, or something about them is worth a word."""
        self._lost += failure.spans
        self._losing = self._losing or bool(failure.spans)
        self._unreachable = failure.unreachable
        if self._hopes and failure.spans:
            self._hopes, self._announced = False, True
            _log.warning("%s: gave up, so %s lost", self._name, _lost(failure.spans))
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
            _log.warning("%s: exported again to %s, after %s lost", self._name, self._url, _lost(self._lost))
        elif self._hopes:
            _log.warning("%s: exported to %s after all", self._name, self._url)
        if self._announced:
            self._lost = 0
        self._losing = self._announced = self._hopes = False

    def over(self) -> None:
        """Nothing more is sent: say what was lost without a word, since its kind had been told of."""
        if self._lost and not self._announced:
            _log.warning("%s: %s lost since, in the same way", self._name, _lost(self._lost))
        self._lost = 0

    def _new(self, kind: str) -> bool:
        now = self._clock()
        last = self._said.get(kind)
        if last is None or (not (self._announced or self._hopes) and now - last > _QUIET):
            self._said[kind] = now
            return True
        return False


_all: WeakSet[Outages] = WeakSet()


def is_known(url: str, *, unreachable: bool = False) -> bool:
    """Whether it has been said already that the server of this URL takes nothing, or that it cannot be reached."""
    return any(each.concern(url, unreachable=unreachable) for each in tuple(_all))


def _lost(spans: int) -> str:
    return f"{_counted(spans)} {'was' if spans == 1 else 'were'}"


def _counted(spans: int) -> str:
    return "1 span" if spans == 1 else f"{spans} spans"
