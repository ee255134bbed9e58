"""What the demo models know: words, Whisper's token table over them, and the aligner's characters."""

from __future__ import annotations

from typing import Any

RATE = 16_000  # samples a second, everywhere

_ENGLISH = (
    "zero one two three four five six seven eight nine ten "
    "hello world start stop red green blue yellow yes no up down left right "
    "open close play pause next back go please thanks good morning test "
    "computer music water light house"
)
_GERMAN = (
    "null eins zwei drei vier fünf sechs sieben acht neun zehn "
    "hallo welt rot grün blau gelb ja nein links rechts bitte danke "
    "guten morgen wasser"
)
EN, DE = _ENGLISH.split(), _GERMAN.split()
WORDS_OF = {"en": EN, "de": DE}
WORDS = EN + DE
assert len(set(WORDS)) == len(WORDS), "a word may belong to one language only, since it is one token"


def _bytes_to_unicode() -> dict[int, str]:
    """GPT-2's table: every byte as a printable character."""
    known = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in known}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(known))
    return table


BYTES = _bytes_to_unicode()


def spelled(word: str) -> str:
    """A word with the space before it, in the characters of the token table."""
    return "".join(BYTES[byte] for byte in (" " + word).encode())


def _build_bpe() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """256 bytes and, merging from left to right, every beginning of every " word": so each word is one token."""
    vocabulary = {BYTES[byte]: i for i, byte in enumerate(sorted(BYTES))}
    merges = []
    for word in WORDS:
        text = spelled(word)
        for end in range(1, len(text)):
            pair = (text[:end], text[end])
            if pair not in merges:
                merges.append(pair)
            vocabulary.setdefault(text[: end + 1], len(vocabulary))
    return vocabulary, merges


VOCABULARY, MERGES = _build_bpe()

# In the real Whisper's order; ids are looked up by their text everywhere.
_LANGUAGES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt "
    "la mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc "
    "ka be tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su"
)
SPECIALS = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{language}|>" for language in _LANGUAGES.split()),
    *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
]
TIMESTAMPS = [f"<|{i * 0.02:.2f}|>" for i in range(1501)]
SPECIAL_ID = {token: len(VOCABULARY) + i for i, token in enumerate(SPECIALS)}
ROWS = len(VOCABULARY) + len(SPECIALS) + len(TIMESTAMPS)  # of the embedding matrix
END = SPECIAL_ID["<|endoftext|>"]
START = SPECIAL_ID["<|startoftranscript|>"]
WORD_ID = {word: VOCABULARY[spelled(word)] for word in WORDS}


def prompt(language: str) -> list[int]:
    """What the decoder is given before the first word."""
    return [START, SPECIAL_ID[f"<|{language}|>"], SPECIAL_ID["<|transcribe|>"], SPECIAL_ID["<|notimestamps|>"]]


def make_tokenizer() -> Any:
    """The table as a `tokenizers.Tokenizer`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=VOCABULARY, merges=MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in TIMESTAMPS])
    return tokenizer


CHARACTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *sorted(set("abcdefghijklmnopqrstuvwxyz'äöüß"))]
CHARACTER_ID = {character: i for i, character in enumerate(CHARACTERS)}
