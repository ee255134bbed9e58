"""A punkt_tab without knowledge, for every language whose sentence splitter WhisperX asks nltk for.

With empty tables Punkt splits at full stops, question and exclamation marks. That is enough for the ends of
subtitle lines, and it keeps `whisperx.align` from downloading anything. English knows four abbreviations.
"""

from __future__ import annotations

from pathlib import Path

FILES = ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt")
ABBREVIATIONS = {"english": "mr\nmrs\ndr\netc\n"}


def write(folder: Path) -> None:
    """Write folder/tokenizers/punkt_tab/<language>/ for WhisperX's languages; folder is what NLTK_DATA names."""
    from whisperx.utils import PUNKT_LANGUAGES

    for language in sorted({"english", *PUNKT_LANGUAGES.values()}):
        target = folder / "tokenizers" / "punkt_tab" / language
        target.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (target / name).write_text(ABBREVIATIONS.get(language, "") if name == "abbrev_types.txt" else "")
