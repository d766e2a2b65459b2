"""`looopy proxy`: the real LiteLLM proxy, for as long as the command runs.

What goes to stdout are two lines of shell that say how to reach it; everything else goes to stderr. `LocalProxy` does the work.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from looopy.cli.watch import INTERRUPTED
from looopy.providers.local_proxy import LocalProxy

_TERMINATED = 128 + signal.SIGTERM


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def serve(models: Sequence[str], port: int, tell: Callable[[str], None]) -> int:
    """Run the proxy until a signal comes; the exit code.

    Args:
        models: each "maker/model", or "name=maker/model"; none for those of the keys in the environment.
        port: where it listens.
        tell: says something to the person.

    Raises:
        ConfigurationError: there is no model, the port is taken, or LiteLLM is not installed.
        ProxyUnreachable: it does not start, or has ended by itself.
    """
    named = dict((model if "=" in model else f"{model}={model}").split("=", 1) for model in models)
    proxy = LocalProxy(named or None, port=port)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        tell(f"starting the LiteLLM proxy for {', '.join(proxy.models)} …")
        with proxy:
            tell(f"it is up; its log is {proxy.log}; Ctrl-C ends it")
            sys.stdout.write(f"export LITELLM_URL={proxy.base_url}\nexport LITELLM_API_KEY={proxy.api_key}\n")
            sys.stdout.flush()
            proxy.wait()
    except _Terminated:
        return _TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(_: int, __: FrameType | None) -> None:
    raise _Terminated
