"""What no text may show: credentials, by what they look like and, of this process's own providers, by what they are."""

from __future__ import annotations

import re

_WORD = r"(?![A-Za-z]?[a-z]{1,15}[.,;:!?)\"']*(?:\s|$))"  # "bearer token", "api_key: missing": no credential
_KEY = r"""
    (?:[prs]k-|sk_|[prs]k_(?:live|test)_|xai-|gsk_|hf_|gh[oprsu]_|github_pat_|glpat-|xox[abeoprs]-)
    (?=[\w-]{0,40}[0-9A-Z])[\w-]{12,}      # a digit or a capital: else it is words, such as "sk-learn-preprocessing"
    |AIza[\w-]{16,}
    |A[KS]IA[A-Z0-9]{16}
    |eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?  # a JSON Web Token
"""
_SECRET = re.compile(
    rf"""
    (?P<scheme>(?i:\b(?:bearer|basic)\s+)){_WORD}[\w\-.~+/]+=*
    |(?P<name>(?<![A-Za-z0-9])(?i:(?:api[-_]?key|access[-_]?token|client[-_]?secret)["']?\s*[:=]\s*["']?)){_WORD}[\w\-.~+/]+=*
    |(?P<url>://)[^\s/?#"]+(?=@)         # a quotation mark ends the URL, in JSON
    |(?<![A-Za-z0-9])(?:{_KEY})
    |(?P<variable>(?:SECRET|TOKEN|PASSW(?:OR)?D|PWD|KEY|CREDENTIAL)[A-Z0-9_]{{0,40}}=["']?)[^\s"']+
    |(?P<cookie>(?i:cookie):\s{{0,8}})(?=[^\s=;"']{{1,80}}=)[^\r\n"']+
    |-----BEGIN[A-Z\ ]{{0,30}}PRIVATE\ KEY-----[\s\S]*?(?:-----END[A-Z\ ]{{0,30}}PRIVATE\ KEY-----|\Z)
    """,
    re.VERBOSE,
)
# Tried at every place of a text, that pattern takes 90 ns a character. So it is tried only near a sign: one character that every credential
# has among its first ten, in surroundings that few other texts have. Each alternative begins with that character, since `re` then skips to it.
_SIGN = re.compile(
    r"""
    b(?=(?i:earer|asic)\s)|B(?=(?i:earer|asic)\s)
    |k(?=(?i:ey)["']?\s*[:=])(?:(?<=(?i:pi)k)|(?<=(?i:pi)[-_]k))|K(?=(?i:ey)["']?\s*[:=])(?:(?<=(?i:pi)K)|(?<=(?i:pi)[-_]K))
    |k(?=(?i:en)["']?\s*[:=])|K(?=(?i:en)["']?\s*[:=])  # access_token
    |c(?=(?i:ret)["']?\s*[:=])|C(?=(?i:ret)["']?\s*[:=])  # client_secret
    |\u212a(?=(?i:ey|en)["']?\s*[:=])  # the sign of kelvin, a `k` to a pattern that ignores case
    |:(?=//[^\s/?\#"]+@)
    |-(?:(?<=[prs]k-)|(?<=xai-)|(?<=glpat-)|(?<=xox[abeoprs]-))
    |_(?:(?<=[prs]k_)|(?<=hf_)|(?<=gh[oprsu]_)|(?<=github_))
    |I(?=za|A)
    |J(?<=eyJ)
    |S(?=ECRET[A-Z0-9_]{0,40}=)|T(?=OKEN[A-Z0-9_]{0,40}=)|P(?=(?:ASSW(?:OR)?D|WD)[A-Z0-9_]{0,40}=)
    |K(?=EY[A-Z0-9_]{0,40}=)|C(?=REDENTIAL[A-Z0-9_]{0,40}=)
    |c(?=(?i:ookie):)|C(?=(?i:ookie):)
    |-(?=----BEGIN)
    """,
    re.VERBOSE,
)
_BEFORE = 9
"""The most characters of a credential before its sign: `access_to`, `client_se`."""


_own: list[str] = []
_KEPT = 64  # keys


def keep_secret(key: str) -> None:
    """Let `redact` hide a key that a provider of this process sends: the newest 64 of them, but for what may be a word."""
    if len(key) >= 8 and key not in _own and any(map(str.isdigit, key)):
        _own.append(key)  # at once: providers may be made by several threads
        del _own[:-_KEPT]


def redact(text: str, *secrets: str) -> str:
    """Hide credentials in a text that comes from outside: the given ones, and whatever looks like one.

    What looks like one: the keys of well-known providers (`sk-…`, `pk-lf-…`, `AIza…`, `ghp_…`), JSON Web Tokens, what follows `Bearer`, `Basic`,
    `api_key=` or the name of such a variable (`DB_PASSWORD=`), cookies, private keys, and the user and password of a URL. And, whatever it looks
    like, the key of a provider of this process. Ordinary words stay.

    Args:
        text: anything that a server, a library or a user wrote.
        secrets: exact strings to hide; empty ones are passed over.

    Returns:
        The text with each credential replaced by `***`.
    """
    if secrets:
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "***")
    if _SIGN.search(text):
        text = _without_what_looks_like_one(text)
    for secret in _own:  # last: one may be the beginning of another's
        if secret in text:
            text = text.replace(secret, "***")
    return text


def _without_what_looks_like_one(text: str) -> str:
    shown: list[str] = []
    done = 0
    for sign in _SIGN.finditer(text):
        for start in range(max(done, sign.start() - _BEFORE), sign.start() + 1):
            if start >= done and (found := _SECRET.match(text, start)):
                kept = found[found.lastgroup] if found.lastgroup else ""
                shown += text[done:start], kept, "***"
                done = found.end()
    return "".join((*shown, text[done:]))
