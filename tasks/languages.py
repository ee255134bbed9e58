"""The languages Whisper knows: codes as in its tokenizer, names in English."""

from __future__ import annotations

import re

_LIST = """
af Afrikaans, am Amharic, ar Arabic, as Assamese, az Azerbaijani, ba Bashkir, be Belarusian, bg Bulgarian, bn Bengali,
bo Tibetan, br Breton, bs Bosnian, ca Catalan, cs Czech, cy Welsh, da Danish, de German, el Greek, en English,
es Spanish, et Estonian, eu Basque, fa Persian, fi Finnish, fo Faroese, fr French, gl Galician, gu Gujarati, ha Hausa,
haw Hawaiian, he Hebrew, hi Hindi, hr Croatian, ht Haitian Creole, hu Hungarian, hy Armenian, id Indonesian,
is Icelandic, it Italian, ja Japanese, jw Javanese, ka Georgian, kk Kazakh, km Khmer, kn Kannada, ko Korean, la Latin,
lb Luxembourgish, ln Lingala, lo Lao, lt Lithuanian, lv Latvian, mg Malagasy, mi Maori, mk Macedonian, ml Malayalam,
mn Mongolian, mr Marathi, ms Malay, mt Maltese, my Burmese, ne Nepali, nl Dutch, nn Norwegian Nynorsk, no Norwegian,
oc Occitan, pa Punjabi, pl Polish, ps Pashto, pt Portuguese, ro Romanian, ru Russian, sa Sanskrit, sd Sindhi,
si Sinhala, sk Slovak, sl Slovenian, sn Shona, so Somali, sq Albanian, sr Serbian, su Sundanese, sv Swedish,
sw Swahili, ta Tamil, te Telugu, tg Tajik, th Thai, tk Turkmen, tl Tagalog, tr Turkish, tt Tatar, uk Ukrainian,
ur Urdu, uz Uzbek, vi Vietnamese, yi Yiddish, yo Yoruba, yue Cantonese, zh Chinese
"""

NAMES: dict[str, str] = {}
"""Name of each code, in the order of the codes."""
for _entry in _LIST.replace("\n", " ").split(","):
    _code, _, _name = _entry.strip().partition(" ")
    NAMES[_code] = _name

_TAGS = """
af afr, am amh, ar ara, as asm, az aze, ba bak, be bel, bg bul, bn ben, bo bod tib, br bre, bs bos, ca cat, cs ces cze,
cy cym wel, da dan, de deu ger, el ell gre, en eng, es spa, et est, eu eus baq, fa fas per, fi fin, fo fao, fr fra fre,
gl glg, gu guj, ha hau, he heb, hi hin, hr hrv, ht hat, hu hun, hy hye arm, id ind, is isl ice, it ita, ja jpn,
jw jav jv, ka kat geo, kk kaz, km khm, kn kan, ko kor, la lat, lb ltz, ln lin, lo lao, lt lit, lv lav, mg mlg,
mi mri mao, mk mkd mac, ml mal, mn mon, mr mar, ms msa may, mt mlt, my mya bur, ne nep, nl nld dut, nn nno,
no nor nob nb, oc oci, pa pan, pl pol, ps pus, pt por, ro ron rum, ru rus, sa san, sd snd, si sin, sk slk slo, sl slv,
sn sna, so som, sq sqi alb, sr srp, su sun, sv swe, sw swa, ta tam, te tel, tg tgk, th tha, tk tuk, tl tgl fil, tr tur,
tt tat, uk ukr, ur urd, uz uzb, vi vie, yi yid, yo yor, zh zho chi cmn
"""
_BY_TAG = {code: code for code in NAMES}
for _entry in _TAGS.replace("\n", " ").split(","):
    _code, *_others = _entry.split()
    _BY_TAG |= dict.fromkeys(_others, _code)

_CODES = {name.lower(): code for code, name in NAMES.items()}


_TAG = re.compile(r"[a-z]{2,3}([-_][a-z0-9]{1,8}){0,5}")


def find_code(text: str) -> str | None:
    """The code for a code, an English name, or a tag with a region (pt-BR) or three letters (deu), in any case; None
    if there is none."""
    text = text.strip().lower()
    if text in NAMES or text in _CODES:
        return text if text in NAMES else _CODES[text]
    return find_tag(text) if _TAG.fullmatch(text) else None


def find_tag(tag: str) -> str | None:
    """The code for a tag as files carry it: ISO 639 with two or three letters, with or without a region."""
    return _BY_TAG.get(tag.strip().lower().replace("_", "-").partition("-")[0])
