"""Which encoding from before Unicode a text is in, judged by its letters.

Any bytes are text in most of these encodings, and what they spell is mostly not words: "très" in Windows-1252 is
"trčs" in Windows-1250, and no language has both č and ê. So an encoding is believed as far as each line, read in it,
keeps to the letters of one language that is written in it. Where two encodings remain, charset-normalizer chooses
between them. (Alone it takes a page of French in Windows-1252 for Windows-1250.)
"""

import codecs
import re
from collections.abc import Iterable, Sequence
from functools import cache

from charset_normalizer import from_bytes

# The letters beyond ASCII that a language uses, in lower case.
_WESTERN = (
    "àâæçèéêëîïôœùûü",  # French
    "äöüß„",  # German
    "áéíñóúü¿¡ºª",  # Spanish
    "àáâãçéêíóôõúºª",  # Portuguese
    "àèéìòù",  # Italian
    "åäöéæø",  # Swedish, Danish, Norwegian, Finnish
    "áæéíðóöúýþ",  # Icelandic
    "áéëèïóöü",  # Dutch
    "àçèéíïòóúü·",  # Catalan
)
_CENTRAL = (
    "ąćęłńóśźż„",  # Polish
    "áčďéěíňóřšťúůýž„",  # Czech
    "áäčďéíĺľňóôŕšťúýž„",  # Slovak
    "áéíóöőúüű„",  # Hungarian
    "ăâîşţșț„",  # Romanian
    "čćđšž",  # Croatian, Slovene
    "äöüß„",  # German
)
_BALTIC = ("āčēģīķļņšūž", "ąčęėįšųūž„", "äõöüšž")  # Latvian, Lithuanian, Estonian
_TURKISH = ("çğıöşüâîû",)
_CYRILLIC = (
    "абвгдежзийклмнопрстуфхцчшщъыьэюяё№",  # Russian, Bulgarian
    "абвгдежзийклмнопрстуфхцчшщьюяєіїґ№",  # Ukrainian
    "абвгдежзијклљмнњопрстћуфхцчџшђ",  # Serbian
)
_GREEK = ("αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ",)
_HEBREW = ("אבגדהוזחטיךכלםמןנסעףפץצקרשת",)
_ARABIC = ("ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىيًٌٍَُِّْ،؛؟", "ءآأئابپتثجچحخدذرزژسشصضطظعغفقکكگلمنهوىيی،؛؟")
_THAI = ("".join(map(chr, [*range(0x0E01, 0x0E3B), *range(0x0E3F, 0x0E5C)])),)

# Punctuation that every language takes from the same code pages.
_PUNCTUATION = "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u2022\u00a0«»€£°§©®™½¼¾"

# The common characters of a Chinese, Japanese or Korean standard are a run of its rows: (codec, first row, last row).
_COMMON_ROWS = {
    "japanese": ("euc_jp", 0xB0, 0xCF),
    "simplified": ("gb2312", 0xB0, 0xD7),
    "traditional": ("big5", 0xA4, 0xC6),
    "korean": ("euc_kr", 0xB0, 0xC8),
}
_EAST_ASIAN_PUNCTUATION = "".join(map(chr, [*range(0x3001, 0x3012), *range(0xFF01, 0xFF5F), 0x30FB, 0x30FC]))
_KANA = "".join(map(chr, [*range(0x3041, 0x3094), *range(0x30A1, 0x30F7), *range(0xFF61, 0xFFA0)]))

# Each encoding with the languages it is believed to hold, the more common first: that one wins where all is equal.
# Where one encoding is another with additions (cp932 is Shift_JIS, gb18030 is GBK and GB2312), the larger stands here.
_ENCODINGS: dict[str, Sequence[str]] = {
    "cp1252": _WESTERN,
    "cp932": ("japanese",),
    "gb18030": ("simplified",),
    "cp1251": _CYRILLIC,
    "cp1250": _CENTRAL,
    "cp949": ("korean",),
    "cp950": ("traditional",),
    "iso8859_2": _CENTRAL,
    "cp1254": _TURKISH,
    "cp1253": _GREEK,
    "cp1255": _HEBREW,
    "cp1256": _ARABIC,
    "cp874": _THAI,
    "cp1257": _BALTIC,
    "iso8859_15": _WESTERN,
    "euc_jp": ("japanese",),
    "koi8_r": _CYRILLIC,
    "koi8_u": _CYRILLIC,
    "cp866": _CYRILLIC,
    "iso8859_5": _CYRILLIC,
    "iso8859_7": _GREEK,
    "mac_roman": _WESTERN,
    "mac_cyrillic": _CYRILLIC,
    "mac_latin2": _CENTRAL,
    "cp850": _WESTERN,
    "cp852": _CENTRAL,
}

# Below this share of letters that fit, no language here is it, and the library judges alone.
_MIN_FIT = 0.6
# Encodings whose fit differs by less are left to the library.
_TIE = 0.02

# A run of characters beyond ASCII, with the Latin letter before and after it if there is one.
_RUN = re.compile(r"([A-Za-z]?)([^\x00-\x7f]+)(?=([A-Za-z]?))")


def detect(lines: Sequence[bytes]) -> str | None:
    """The codec that most plausibly reads these lines, each with bytes beyond ASCII; None if they are no text."""
    fits: dict[str, float] = {}
    seen: set[tuple[str, ...]] = set()
    for encoding, languages in _ENCODINGS.items():
        texts = _decoded(lines, encoding)
        # Two encodings that read the sample alike are one: the more common of them.
        if texts is not None and texts not in seen:
            seen.add(texts)
            fits[encoding] = _fit(texts, languages)
    best = max(fits.values(), default=0.0)
    if best < _MIN_FIT:
        return _library_choice(lines, None)
    tied = [encoding for encoding, fit in fits.items() if fit >= best - _TIE]
    # Windows-1252 is more common than all others together, and the library guesses between Latin code pages.
    if len(tied) == 1 or tied[0] == "cp1252":
        return tied[0]
    return _library_choice(lines, tied) or tied[0]


def _decoded(lines: Iterable[bytes], encoding: str) -> tuple[str, ...] | None:
    decoder = codecs.getincrementaldecoder(encoding)
    try:
        # Not final: a long line is cut, maybe within a character.
        return tuple(decoder().decode(line).lower() for line in lines)
    except UnicodeDecodeError:
        return None


def _fit(texts: Iterable[str], languages: Sequence[str]) -> float:
    """The share of the characters beyond ASCII that belong to the language of their line, over all lines."""
    alphabets = [_alphabet(language) for language in languages]
    # Within one word no language mixes Cyrillic or Greek with Latin letters.
    is_latin = languages in (_WESTERN, _CENTRAL, _BALTIC, _TURKISH)
    total = fitting = 0
    for text in texts:
        runs = _RUN.findall(text)
        total += sum(len(run) for _, run, _ in runs)
        possible = "".join(run for before, run, after in runs if is_latin or not (before or after))
        fitting += max(sum(map(alphabet.__contains__, possible)) for alphabet in alphabets)
    return fitting / total if total else 0.0


@cache
def _alphabet(language: str) -> frozenset[str]:
    if language not in _COMMON_ROWS:
        return frozenset(language + _PUNCTUATION)
    codec, first, last = _COMMON_ROWS[language]
    every_trail = [*range(0x40, 0x7F), *range(0xA1, 0xFF)] if codec == "big5" else range(0xA1, 0xFF)
    cells = (bytes((row, trail)) for row in range(first, last + 1) for trail in every_trail)
    characters = "".join(cell.decode(codec, "ignore") for cell in cells)
    return frozenset(characters + _EAST_ASIAN_PUNCTUATION + _PUNCTUATION + (_KANA if language == "japanese" else ""))


def _library_choice(lines: Iterable[bytes], encodings: list[str] | None) -> str | None:
    match = from_bytes(b"".join(lines), cp_isolation=encodings).best()
    return match.encoding if match else None
