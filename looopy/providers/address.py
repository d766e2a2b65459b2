"""Where the proxy is and how it knows us: URL, key, and where both came from.

Checked when a provider is built. Credentials are in `headers` and `secrets` alone, never in a text; nothing here does I/O.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from looopy.errors import ConfigurationError
from looopy.providers.keys import KEYS, present
from looopy.redaction import keep_secret, redact

_NO_URL = (
    "no address of a LiteLLM proxy: set LITELLM_URL, or pass base_url=, for example 'http://localhost:4000'. "
    "To start a proxy: pip install 'looopy[cli,proxy]', then looopy proxy --model {model}. {keys}"
    "With LOOOPY_STAND_IN=1 a model that is given by its name alone needs none: the stand-in answers."
)
_KEYS = "With {variables} alone, LiteLLMLibraryProvider asks chat models without a proxy: pip install 'looopy[litellm]'. "
_CHAT = "/chat/completions"


@dataclass(frozen=True, slots=True)
class Address:
    """A proxy, as far as URLs, headers and error texts need it.

    Attributes:
        root: the proxy's URL without credentials and without `/v1`.
        chat: the URL of chat completions, without credentials.
        source: where the URL came from: "LITELLM_URL", "OPENAI_BASE_URL" or "base_url=".
        key_source: where the key came from; empty when there is none.
        headers: what authenticates.
        secrets: what no text may show.
    """

    root: str
    chat: str
    source: str
    key_source: str
    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    @property
    def embeddings(self) -> str:
        """The URL of embeddings, without credentials."""
        return f"{self.root}/v1/embeddings"

    def hide(self, text: str) -> str:
        """The text without credentials."""
        return redact(text, *self.secrets)


class Key(str):
    """A key, and the variable of the environment that it was taken from by whoever passes it as an argument."""

    __slots__ = ("source",)
    source: str

    @classmethod
    def of(cls, variable: str) -> Key:
        """What a variable is set to; empty where it is not."""
        key = cls(os.environ.get(variable, "").strip())
        key.source = variable
        return key


def address(base_url: str | None, api_key: str | None, *, model: str) -> Address:
    """Find and check the address and the key.

    Args:
        base_url: with or without `/v1` or `/v1/chat/completions`; None for the environment's.
        api_key: the key; None for a proxy without authentication, empty for the environment's.
        model: named in the advice.

    Raises:
        ConfigurationError: there is no URL, or the URL or the key cannot work.
    """
    url, source = _first(("base_url=", base_url), ("LITELLM_URL", None), ("OPENAI_BASE_URL", None))
    if not url:
        there = " and ".join(KEYS[maker] for maker in present())
        raise ConfigurationError(
            _NO_URL.format(model=model or "gpt-4o-mini", keys=_KEYS.format(variables=there) if there else ""),
            argument="base_url",
        )
    parts = _parts(url, source)
    key, key_source = _key(api_key, source)
    # A path that ends in /chat/completions is somebody's own: it is called as it is.
    path = parts.path.rstrip("/")
    own = path.endswith(_CHAT)
    host = parts.netloc.rpartition("@")[2]
    root = f"{parts.scheme}://{host}{path.removesuffix(_CHAT).removesuffix('/v1')}"
    login = parts.netloc.rpartition("@")[0]
    return Address(
        root=root,
        chat=f"{parts.scheme}://{host}{path}" if own else f"{root}/v1{_CHAT}",
        source=source,
        key_source=key_source,
        headers=_headers(key, login),
        secrets=tuple(secret for secret in (key, login, unquote(parts.password or "")) if secret),
    )


def _first(*places: tuple[str, str | None]) -> tuple[str, str]:
    """The first value that is there, and its place: an argument's, or a variable's of the environment."""
    for name, value in places:
        text = (os.environ.get(name, "") if value is None else value).strip()
        if text:
            return text, name
    return "", ""


def _key(api_key: str | None, source: str) -> tuple[str, str]:
    if api_key is None:
        return "", ""
    key, key_source = _first(
        (api_key.source if isinstance(api_key, Key) else "api_key=", api_key),
        ("LITELLM_API_KEY", None),
        # OpenAI's key is for OpenAI's address: it is not shown to a proxy that was named in another way.
        ("OPENAI_API_KEY", None if source == "OPENAI_BASE_URL" else ""),
    )
    if not re.fullmatch(r"[!-~]*", key):
        raise ConfigurationError(
            f"the API key from {key_source} holds a space, a line break or a character that is not ASCII: was it copied whole?",
            argument="api_key",
        )
    keep_secret(key)
    return key, key_source


def _parts(url: str, source: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        parts, valid = SplitResult("", "", "", "", ""), False
    shown = re.sub(r"[^/]*@", "***@", re.sub(r"[?#].*", "?…", url, flags=re.DOTALL))
    what = f"{source.rstrip('=')} is {shown!r}"
    if "://" not in url:
        # The library's provider takes the model first, and so may whoever knows that one.
        model = source == "base_url=" and ":" not in url
        meant = f"; where that is the model, write model={shown!r}" if model else ""
        raise ConfigurationError(
            f"{what}: it needs a scheme, for example 'http://{shown}'{meant}", argument="base_url"
        )
    if url.partition("://")[0].lower() not in ("http", "https"):
        raise ConfigurationError(f"{what}: its scheme must be http or https", argument="base_url")
    if not valid or not re.fullmatch(r"[!-~]+", url):
        raise ConfigurationError(
            f"{what}: that is no URL; it should be like 'http://localhost:4000'", argument="base_url"
        )
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"{what}: it must end with the path; leave out what follows '?' or '#'", argument="base_url"
        )
    return parts


def _headers(key: str, login: str) -> dict[str, str]:
    if not login:
        return {"authorization": f"Bearer {key}"} if key else {}
    basic = base64.b64encode(unquote(login).encode()).decode()
    # The login is for what stands before the proxy; the proxy's own key then takes LiteLLM's other header.
    return {"authorization": f"Basic {basic}"} | ({"x-litellm-api-key": f"Bearer {key}"} if key else {})
