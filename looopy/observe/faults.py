"""What fails in the recording of runs: a processor, a sampler, an exporter or a meter may be anybody's, and no run is theirs to break."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from traceback import extract_tb

from looopy.errors import words
from looopy.observe.forks import forget_in_forks

_log = logging.getLogger("looopy.observe")


class Faults:
    """Errors that were kept from runs: each kind is said once, and what was lost by them is counted.

    Attributes:
        lost: spans.
    """

    def __init__(self) -> None:
        self._said: set[tuple[str, type[BaseException]]] = set()
        self.forked()
        forget_in_forks(self)

    def forked(self) -> None:
        """In a fork's child: what was lost, the parent has lost."""
        self.lost = 0
        self._lock = threading.RLock()  # the handler of a signal may come in between, and fail as well

    def caught(self, what: str, error: BaseException, *, lost: int = 0) -> None:
        """An error was caught.

        Args:
            what: what could not be done, and what comes of it.
            error: why.
            lost: spans.
        """
        kind = (what, type(error))
        with self._lock:
            self.lost += lost
            known = kind in self._said
            self._said.add(kind)
        if not known:
            where = extract_tb(error.__traceback__)[-1]
            at = f"{Path(where.filename).name}:{where.lineno}"
            _log.warning("%s: %s, at %s (said once)", what, words(error), at)
