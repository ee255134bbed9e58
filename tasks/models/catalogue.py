"""The allow-list: every model Stenobox can fetch, at the commit it was checked with.

The repositories are those of faster_whisper/utils.py and whisperx/alignment.py (for the five languages that WhisperX
takes from torchaudio: their Hugging Face equivalents). All fifteen Whisper revisions are pinned: each was
found in several unrelated public projects, as their pin or as the Hub's answer. Of the aligners only en, ja, pl and zh
could be checked that way and are pinned; the revision of the others is None, which means `main`, resolved once at
download, and the commit it resolved to is recorded in the folder's `stenobox.json`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.languages import NAMES

LANGUAGES: tuple[str, ...] = tuple(NAMES)
"""Every code Whisper knows."""

_OLDER = tuple(code for code in LANGUAGES if code != "yue")  # Cantonese came with large-v3
_ENGLISH = ("en",)


@dataclass(frozen=True, slots=True)
class Model:
    """A speech model that a job can name.

    repo: Hugging Face repository, None for the packaged and the operator's own models.
    revision: commit, None for `main` at the time of the download.
    megabytes: approximate download, 10^6 bytes.
    languages: Whisper codes that it transcribes.
    summary: a sentence for a person who has to choose.
    """

    name: str
    repo: str | None
    revision: str | None
    megabytes: int
    languages: tuple[str, ...]
    title: str
    summary: str

    @property
    def key(self) -> str:
        """What `python -m tasks.models` calls it."""
        return self.name


@dataclass(frozen=True, slots=True)
class Aligner:
    """A wav2vec2 model that finds the times of single words in one language. Fields as in Model."""

    language: str
    repo: str | None
    revision: str | None
    megabytes: int
    packaged: bool = False

    @property
    def key(self) -> str:
        return f"aligner:{self.language}"

    @property
    def title(self) -> str:
        return f"Word times ({self.language})"


DEMO = Model(
    "demo",
    None,
    None,
    0,
    ("en", "de"),
    "Demo",
    "Only for trying the box out, ready without a download: it knows a few dozen English and German words (numbers, "
    "colours, simple commands), and anything else becomes the nearest of these.",
)

_S, _D = "Systran/faster-whisper-", "Systran/faster-distil-whisper-"

# fmt: off
_WHISPER = (
    Model("tiny", _S + "tiny", "d90ca5fe260221311c53c58e660288d3deb8d356", 78, _OLDER, "Tiny",
          "The fastest and least exact: rough drafts of clear speech in 99 languages (78 MB)."),
    Model("base", _S + "base", "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66", 148, _OLDER, "Base",
          "Still very fast and a little more exact than tiny, in 99 languages (148 MB)."),
    Model("small", _S + "small", "536b0662742c02347bc0e980a01041f333bce120", 486, _OLDER, "Small",
          "A good start on a machine without a GPU: usable text in the widely spoken languages (486 MB)."),
    Model("medium", _S + "medium", "08e178d48790749d25932bbc082711ddcfdfbc4f", 1531, _OLDER, "Medium",
          "More exact than small and about three times slower, in 99 languages (1.5 GB)."),
    Model("large-v2", _S + "large-v2", "f0fe81560cb8b68660e564f55dd99207059c092e", 3090, _OLDER, "Large v2",
          "Very exact and slow; worth a try where large-v3 repeats itself (3.1 GB)."),
    Model("large-v3", _S + "large-v3", "edaa852ec7e145841d8ffdb056a99866b5f0a478", 3091, LANGUAGES, "Large v3",
          "The most exact in most of its 100 languages, and the slowest; best with a GPU (3.1 GB)."),
    # The Hub redirects this repository to dropbox-dash/…; faster-whisper 1.2.1 still uses the old name.
    Model("turbo", "mobiuslabsgmbh/faster-whisper-large-v3-turbo", "0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf",
          1622, LANGUAGES, "Turbo",
          "Nearly as exact as large-v3 and several times faster: the best choice where memory allows (1.6 GB)."),
    Model("tiny.en", _S + "tiny.en", "0d3d19a32d3338f10357c0889762bd8d64bbdeba", 78, _ENGLISH, "Tiny, English",
          "Like tiny for English alone, and somewhat more exact there (78 MB)."),
    Model("base.en", _S + "base.en", "3d3d5dee26484f91867d81cb899cfcf72b96be6c", 148, _ENGLISH, "Base, English",
          "Like base for English alone, and somewhat more exact there (148 MB)."),
    Model("small.en", _S + "small.en", "d1d751a5f8271d482d14ca55d9e2deeebbae577f", 486, _ENGLISH, "Small, English",
          "Like small for English alone, and slightly more exact there (486 MB)."),
    Model("medium.en", _S + "medium.en", "a29b04bd15381511a9af671baec01072039215e3", 1530, _ENGLISH, "Medium, English",
          "Like medium for English alone (1.5 GB)."),
    Model("distil-small.en", _D + "small.en", "ef77d90526ccd62cde3808ee70626a01e5cf83e4", 336, _ENGLISH,
          "Distil small, English", "English alone: close to small.en and much faster (336 MB)."),
    Model("distil-medium.en", _D + "medium.en", "80ddfce281f77766d8943d63109199fc8145dfa5", 792, _ENGLISH,
          "Distil medium, English", "English alone: close to medium.en and much faster (0.8 GB)."),
    Model("distil-large-v2", _D + "large-v2", "fe9b404fc56de3f7c38606ef9ba6fd83526d05e4", 1516, _ENGLISH,
          "Distil large v2, English", "English alone: close to large-v2 and much faster (1.5 GB)."),
    Model("distil-large-v3", _D + "large-v3", "c3058b475261292e64a0412df1d2681c06260fab", 1516, _ENGLISH,
          "Distil large v3, English",
          "English alone: close to large-v3 and much faster, good with long recordings (1.5 GB)."),
)
# fmt: on
"""Sizes: the sum of the files on the Hub at these revisions."""

CATALOGUE: dict[str, Model] = {model.name: model for model in (DEMO, *_WHISPER)}

_XLSR = "jonatasgrosman/wav2vec2-large-xlsr-53-"
_PINNED = {
    "en": "22aad52d435eb6dbaf354bdad9b0da84ce7d6156",
    "ja": "cf031e020336460d15a417eba710bbc5bb43be9a",
    "pl": "6b1cea36bd8bc5f65ec8081667cd9c0207d51970",
    "zh": "99ccb2737be22b8bb50dcfcc39ad4d567fb90cfd",
}
_LARGE = 1262  # megabytes of a wav2vec2-large in float32, which nearly all of them are
_OTHER_SIZES = {"en": 378, "vi": 378, "no": 3850, "nn": 3850}

ALIGNERS: dict[str, Aligner] = {
    language: Aligner(language, repo, _PINNED.get(language), _OTHER_SIZES.get(language, _LARGE))
    for language, repo in {
        "en": "facebook/wav2vec2-base-960h",
        "fr": _XLSR + "french",
        "de": _XLSR + "german",
        "es": _XLSR + "spanish",
        "it": _XLSR + "italian",
        "ja": _XLSR + "japanese",
        "zh": _XLSR + "chinese-zh-cn",
        "nl": _XLSR + "dutch",
        "uk": "Yehor/wav2vec2-xls-r-300m-uk-with-small-lm",
        "pt": _XLSR + "portuguese",
        "ar": _XLSR + "arabic",
        "cs": "comodoro/wav2vec2-xls-r-300m-cs-250",
        "ru": _XLSR + "russian",
        "pl": _XLSR + "polish",
        "hu": _XLSR + "hungarian",
        "fi": _XLSR + "finnish",
        "fa": _XLSR + "persian",
        "el": _XLSR + "greek",
        "tr": "mpoyraz/wav2vec2-xls-r-300m-cv7-turkish",
        "da": "saattrupdan/wav2vec2-xls-r-300m-ftspeech",
        "he": "imvladikon/wav2vec2-xls-r-300m-hebrew",
        "vi": "nguyenvulebinh/wav2vec2-base-vi-vlsp2020",
        "ko": "kresnik/wav2vec2-large-xlsr-korean",
        "ur": "kingabzpro/wav2vec2-large-xls-r-300m-Urdu",
        "te": "anuragshas/wav2vec2-large-xlsr-53-telugu",
        "hi": "theainerd/Wav2Vec2-large-xlsr-hindi",
        "ca": "softcatala/wav2vec2-large-xlsr-catala",
        "ml": "gvs/wav2vec2-large-xlsr-malayalam",
        "no": "NbAiLab/nb-wav2vec2-1b-bokmaal-v2",
        "nn": "NbAiLab/nb-wav2vec2-1b-nynorsk",
        "sk": "comodoro/wav2vec2-xls-r-300m-sk-cv8",
        "sl": "anton-l/wav2vec2-large-xlsr-53-slovenian",
        "hr": "classla/wav2vec2-xls-r-parlaspeech-hr",
        "ro": "gigant/romanian-wav2vec2",
        "eu": "stefan-it/wav2vec2-large-xlsr-53-basque",
        "gl": "ifrz/wav2vec2-large-xlsr-galician",
        "ka": "xsway/wav2vec2-large-xlsr-georgian",
        "lv": "jimregan/wav2vec2-large-xlsr-latvian-cv",
        "tl": "Khalsuu/filipino-wav2vec2-l-xls-r-300m-official",
        "sv": "KBLab/wav2vec2-large-voxrex-swedish",
        "id": "cahya/wav2vec2-large-xlsr-indonesian",
    }.items()
}
"""By language. Other languages have segment times only, unless the operator puts an aligner into the folder."""
