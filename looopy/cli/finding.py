"""What `looopy doctor` says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        verdict: "good", "broken", or "note" for what is neither.
        about: what was looked at, in a word.
        text: what was found, and the mend.
    """

    verdict: Literal["good", "broken", "note"]
    about: str
    text: str
