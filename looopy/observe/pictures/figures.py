"""Numbers and names as people read them, on one line and harmless to a terminal."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds as people read them: "0.4 ms", "40 ms", "1.4 s", "2 min 5 s", "3 h 20 min"."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        return "{:.0f} min {:.0f} s".format(*divmod(round(seconds), 60))
    return "{:,.0f} h {:.0f} min".format(*divmod(round(seconds / 60), 60))


def dollars(cost: float | None) -> str:
    """US dollars, or that nobody knows: four places, and up to eight where these show next to nothing."""
    if cost is None:
        return "cost unknown"
    return f"${cost:.8f}".rstrip("0") if 5e-9 < cost < 0.0001 else f"${cost:.4f}"


def counted(number: int, thing: str) -> str:
    """For example "1 tool", "2 tools" or "2 retries"."""
    if number == 1:
        return f"{number} {thing}"
    return f"{number} {thing[:-1]}ies" if thing.endswith("y") else f"{number} {thing}s"


def shortly(number: int) -> str:
    """A count in at most four characters up to the billions: "7", "999", "1.2k", "35k", "1.2M"."""
    if number < 1000:
        return str(number)
    size = float(number)
    for unit in ("k", "M"):
        size /= 1000
        if size < 9.95:
            return f"{size:.1f}{unit}"
        if size < 999.5:
            return f"{size:.0f}{unit}"
    return f"{size / 1000:.1f}G"


def percent(part: float, whole: float) -> str:
    """A share: "61%", "<1%"; empty where there is nothing to share."""
    if whole <= 0:
        return ""
    return "<1%" if 0 < part < 0.005 * whole else f"{part / whole:.0%}"


def harmless(text: str, encoding: str = "utf-8") -> str:
    """Text on one line, with nothing in it that commands a terminal or that the encoding does not have."""
    line = "".join(
        sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(text.split())
    )
    return line.encode(encoding, "replace").decode(encoding)
