"""One test for both kinds of provider: the program's own, and the one that looopy makes."""

from __future__ import annotations

import pytest

from observe.watched import light, sdk

each_provider = pytest.mark.parametrize("provider", [sdk, light])
