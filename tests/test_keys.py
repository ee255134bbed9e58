"""Keys as text: what a scanner for leaked secrets, and a person who mistypes one, can rely on."""

from __future__ import annotations

import re

import pytest

from tasks import keys


def test_a_key_has_a_prefix_random_characters_and_a_checksum() -> None:
    found = {keys.mint() for _ in range(50)}
    assert len(found) == 50
    assert all(re.fullmatch(r"sb_[0-9A-Za-z]{38}", key) for key in found)
    assert 62**keys.RANDOM_CHARACTERS > 2**122
    assert all(keys.well_formed(key) for key in found)


@pytest.mark.parametrize("change", [str.lower, str.upper, lambda key: key[:-1], lambda key: key + "0", lambda key: " "])
def test_any_other_text_is_no_key(change: object) -> None:
    assert not keys.well_formed(change("sb_" + "aB3" * 12 + "xY"))  # type: ignore[operator]


def test_one_wrong_character_is_found() -> None:
    key = keys.mint()
    for place in range(3, len(key)):
        other = "0" if key[place] != "0" else "1"
        assert not keys.well_formed(key[:place] + other + key[place + 1 :])


def test_a_digest_says_nothing_of_the_key_and_takes_any_text() -> None:
    assert keys.digest("one") != keys.digest("two")
    assert re.fullmatch(r"[0-9a-f]{64}", keys.digest("\udcff\x00é"))
