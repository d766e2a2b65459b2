"""A sound in OpenAI's format."""

from __future__ import annotations

from looopy import Message
from looopy.llm.chat import _sound
from looopy.messages import FilePart


def test_a_sound_is_a_file_of_its_kind() -> None:
    part = _sound({"input_audio": {"data": "AAAA", "format": "flac"}})
    assert part is not None
    assert Message.user((part,)).content == (FilePart(data="AAAA", mime_type="audio/flac"),)
