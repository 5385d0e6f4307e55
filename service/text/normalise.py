"""English text as it is read aloud, for a speech model: words and the punctuation of speech only.

It knows no mark-up, no engine and no voice. Letters of other scripts are left as they are.
"""

import html
import re
import unicodedata

from service.text import addresses, dates, punctuation, quantities, wording
from service.text.markdown import plain
from service.text.markup import EMOTICON, LETTERED_EMOJI

__all__ = ["normalise"]

ROUNDS = 8  # a form that shows only when another is gone is read in the next; 3 seen

RULES = (
    quantities.FEET_AND_INCHES,
    punctuation.QUOTATION,
    punctuation.FOOTNOTE,
    *addresses.RULES,
    *wording.RULES,
    *dates.RULES,
    *quantities.RULES,
    *punctuation.RULES,
)

ONE_FOR_ANOTHER = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032\u00b4", "'"),
        **dict.fromkeys("“”„‟″", '"'),
        **dict.fromkeys("\u2010\u2011", "-"),
        "\u2012": "\u2013",
        "―": "—",
        "\u2044": "/",
        "…": "...",
        "‥": "..",
    }
)
# Latin letters and digits in other clothes: Ⅷ, ½, ①, ℃, ₂, ligatures, bold, full width.
DRESSED = re.compile(
    "[\u2080-\u2089\u2100-\u2121\u2123-\u2138\u213a-\u218f\u2460-\u24c1\u24c3-\u24ff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
    "\ufb00-\ufb06\U0001d400-\U0001d7ff¼½¾]"
)
SPOKEN_SYMBOLS = frozenset("°©№")


def normalise(text: str) -> str:
    """Write a text as it is read aloud, on one line; plain text comes back as it is.

    Numbers, dates, times, money, units, addresses, abbreviations and symbols become words; emoji,
    marks of Markdown, brackets and quotation marks go, and leave a comma where they were a pause.
    What is left: letters of any script with their own punctuation, and `.,!?;:'-`. Never raises.
    Linear in the text's length. Normalising twice changes nothing more. Empty when nothing in the
    text can be spoken.
    """
    spoken = plain(_characters(html.unescape(text)))
    for _ in range(ROUNDS):
        before, spoken = spoken, _read_aloud(spoken)
        if spoken == before:
            break
    return spoken


def _read_aloud(text: str) -> str:
    text = EMOTICON.sub("", " ".join(text.split()))
    for rule in RULES:
        text = rule.apply(text)
    return unicodedata.normalize("NFC", punctuation.tidy(text))


def _characters(text: str) -> str:
    composed = unicodedata.normalize("NFC", LETTERED_EMOJI.sub(" ", text)).translate(
        ONE_FOR_ANOTHER
    )
    undressed = DRESSED.sub(_undressed, composed).translate(ONE_FOR_ANOTHER)
    return "".join(_visible(character) for character in undressed)


def _undressed(found: re.Match[str]) -> str:
    plain_form = unicodedata.normalize("NFKC", found[0])
    beside_digit = found.string[max(found.start() - 1, 0) : found.start()].isdecimal()
    return f" {plain_form}" if beside_digit and plain_form[:1].isdecimal() else plain_form


def _visible(character: str) -> str:
    """Drop pictures and what cannot be seen; keep line breaks, for Markdown; make digits ASCII."""
    if character in SPOKEN_SYMBOLS or character == "\n":
        return character
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category in ("So", "Cc", "Cs", "Cn", "Co") or "\U0001f3fb" <= character <= "\U0001f3ff":
        return " "
    return "" if category == "Cf" or character in "\ufe0e\ufe0f\u20e3" else character
