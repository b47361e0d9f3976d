"""Latches: any word that is set is seen, words stay set, readers cannot set."""

import pytest

from common.enums import KillSource
from common.errors import SegmentError
from shm import registry
from shm.latch import LATCH_WORDS, WORD_STRIDE, Latch, anonymous_latch, get_word, is_any_set


def test_each_source_is_seen_and_stays_set(instance):
    name = registry.instance_name(instance, "kill")
    writer = Latch.create(name)
    reader = Latch.open(name)
    for source in KillSource:
        assert not is_any_set(reader.words, len(KillSource))
        writer.set(source)
        assert is_any_set(reader.words, len(KillSource))
        assert reader.get(source) == get_word(reader.words, source) == 1
        writer.clear(source)
    writer.set(KillSource.RISK)
    writer.close()
    assert Latch.open(name).get(KillSource.RISK) == 1


def test_words_stand_apart_and_others_are_not_looked_at():
    latch = anonymous_latch()
    latch.set(3, 42)
    assert latch.words[3 * WORD_STRIDE] == 42
    assert not is_any_set(latch.words, 3)
    assert is_any_set(latch.words, 4)


def test_readers_and_wrong_words_are_refused(instance):
    name = registry.instance_name(instance, "phase")
    writer, reader = Latch.create(name), Latch.open(name)
    with pytest.raises(SegmentError, match="cannot be set"):
        reader.set(0)
    with pytest.raises(SegmentError, match="cannot be set"):
        writer.set(LATCH_WORDS)
    with pytest.raises(SegmentError, match="exists"):
        Latch.create(name)
    assert not reader.words.flags.writeable
