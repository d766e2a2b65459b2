"""Frozen values, changed: a copy of one with some of its fields set anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import cache
from operator import attrgetter
from types import MemberDescriptorType
from typing import Any, TypeVar

T = TypeVar("T")


def changed(value: T, /, **changes: object) -> T:
    """`dataclasses.replace` at a third of the price, for frozen classes with slots that check nothing when they are made.

    Raises:
        AttributeError: there is no such field.
    """
    kind = type(value)
    read, writers = _fields_of(kind)
    twin = object.__new__(kind)
    for write, field in zip(writers, read(value), strict=True):
        write(twin, field)
    for name, field in changes.items():
        object.__setattr__(twin, name, field)
    return twin


def copies(value: T, name: str, each: Iterable[object], /) -> list[T]:
    """Copies that differ in one field, for many of them at once: at a third of the price again."""
    kind = type(value)
    read, writers = _fields_of(kind)
    same = list(zip(writers, read(value), strict=True))
    write_own = _writer(kind, name)
    found: list[T] = []
    for own in each:
        twin = object.__new__(kind)
        for write, field in same:
            write(twin, field)
        write_own(twin, own)
        found.append(twin)
    return found


@cache
def _fields_of(
    kind: Any,
) -> tuple[Callable[[object], tuple[object, ...]], list[Callable[[object, object], None]]]:
    """What reads all fields of a class with slots at once, and what writes each of them, frozen or not."""
    names = [each.name for each in fields(kind)]
    return attrgetter(*names), [_writer(kind, name) for name in names]


def _writer(kind: Any, name: str) -> Callable[[object, object], None]:
    slot = getattr(kind, name, None)
    if isinstance(slot, MemberDescriptorType):
        return slot.__set__
    # A class that somebody derived from one of ours, without slots.
    return lambda twin, field: object.__setattr__(twin, name, field)
