"""Codes and names of languages, in any case."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.languages import NAMES, find_code
from tasks.models import LANGUAGES


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("en", "en"),
        ("EN", "en"),
        (" de\n", "de"),
        ("german", "de"),
        ("Haitian Creole", "ht"),
        ("norwegian nynorsk", "nn"),
        ("Norwegian", "no"),
        ("haw", "haw"),
        ("yue", "yue"),
        ("Cantonese", "yue"),
        ("", None),
        (" ", None),
        ("auto", None),
        ("xx", None),
        ("en-US", "en"),
        ("pt-BR", "pt"),
        ("zh-CN", "zh"),
        ("zh_Hant_TW", "zh"),
        ("deu", "de"),
        ("eng", "en"),
        ("en-", None),
        ("en-!!", None),
        ("en/US", None),
        ("xxx", None),
        ("e" * 60_000, None),
        ("Klingon", None),
        ("Haitian", None),
        ("../en", None),
    ],
)
def test_find_code_takes_codes_and_names_and_nothing_else(text: str, code: str | None) -> None:
    assert find_code(text) == code


@pytest.mark.parametrize("spell", [str, str.upper, str.title])
def test_every_language_is_found_by_its_code_and_by_its_name(spell: Callable[[str], str]) -> None:
    assert [find_code(spell(code)) for code in NAMES] == list(NAMES)
    assert [find_code(spell(name)) for name in NAMES.values()] == list(NAMES)


def test_the_codes_are_those_that_the_models_know() -> None:
    assert set(NAMES) == set(LANGUAGES)
    assert len(NAMES) == 100


def test_the_list_is_in_the_order_of_its_codes() -> None:
    codes = [code for code in NAMES if len(code) == 2]
    assert codes == sorted(codes)
    assert len(set(NAMES.values())) == len(NAMES)
