"""Server-sent events survive any split of the bytes and every form that the format allows."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looopy.providers.sse import ErrorData, Events


def parsed(*portions: bytes) -> list[bytes]:
    events = Events()
    found = [data for portion in portions for data in events.feed(portion)]
    return [*found, *events.flush()]


STREAM = (
    b": ping\r\n\r\n"
    b'data: {"a": 1}\n\n'
    b"event: message\nid: 7\nretry: 100\ndata: two\ndata:  lines\n\n"
    b"data:tight\r\r"
    b" data: indented\n\n"
    b'data: "\xe2\x80\xa8 \xe2\x80\xa9 \xc2\x85 \x0b"\r\n\r\n'
    b"data\n\n"
    b"event: lonely\n\n"
    b"data: [DONE]\n"
)
WHOLE = [
    b'{"a": 1}',
    b"two\n lines",
    b"tight",
    b"indented",
    b'"\xe2\x80\xa8 \xe2\x80\xa9 \xc2\x85 \x0b"',
    b"",
    b"[DONE]",
]


def test_every_form_of_an_event_is_understood():
    assert parsed(STREAM) == WHOLE


def test_a_stream_may_be_split_after_any_byte():
    assert [parsed(STREAM[:cut], STREAM[cut:]) for cut in range(len(STREAM) + 1)] == [WHOLE] * (
        len(STREAM) + 1
    )


def test_a_stream_may_come_byte_by_byte():
    assert parsed(*(STREAM[place : place + 1] for place in range(len(STREAM)))) == WHOLE


def test_a_line_end_of_two_bytes_may_be_split_by_an_empty_read():
    assert parsed(b"data: a\r", b"", b"\ndata: b\r", b"", b"\n", b"\r\n") == [b"a\nb"]


def test_a_byte_order_mark_is_passed_over():
    assert parsed(b"\xef\xbb", b"\xbfdata: a\n\n") == [b"a"]


def test_a_missing_last_blank_line_or_line_end_loses_nothing():
    assert [parsed(b"data: a"), parsed(b"data: a\n"), parsed(b"data: a\n\n"), parsed(b"")] == [
        [b"a"],
        [b"a"],
        [b"a"],
        [],
    ]


@pytest.mark.parametrize(
    "stream", [b"event: error\ndata: a\n\ndata: b\n\n", b"data: a\nevent: error\n\ndata: b\n\n"]
)
def test_only_the_event_that_is_named_error_is_marked(stream: bytes):
    assert [(type(data), data) for data in parsed(stream)] == [(ErrorData, b"a"), (bytes, b"b")]


def test_another_name_and_the_name_of_an_event_without_data_mark_nothing():
    assert [type(data) for data in parsed(b"event: error\n\nevent: x\ndata: a\n\n")] == [bytes]


def test_the_second_event_is_looked_for_when_the_first_was_taken():
    events = Events()
    found = events.feed(b"data: a\n\ndata: b\n\n")
    assert next(found) == b"a"
    assert list(found) == [b"b"]


def test_the_time_for_a_long_line_grows_with_its_length_only():
    """Joining what was left with each portion would be quadratic: 16 MB in 4,000 portions would take minutes."""
    events = Events()
    portion = b"x" * 4_096
    began = time.process_time()
    for _ in range(4_000):
        assert list(events.feed(portion)) == []
    assert list(events.feed(b"\n\n")) == []
    assert time.process_time() - began < 5


@given(
    st.lists(st.text(max_size=20), max_size=5),
    st.lists(st.integers(0, 200), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
def test_what_was_sent_comes_out_however_it_was_split(texts, cuts, line_end, commented):
    lines = [
        f"data: {json.dumps(text)}{line_end}{':' + line_end if commented else ''}{line_end}" for text in texts
    ]
    stream = "".join(lines).encode()
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    portions = [stream[start:end] for start, end in pairwise(places)]
    assert [json.loads(data) for data in parsed(*portions)] == texts


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_in_any_portions_give_the_same_events_as_in_one(portions):
    assert parsed(*portions) == parsed(b"".join(portions))
