"""English number words. It knows nothing of what the numbers count."""

from unicode_rbnf import RbnfEngine

__all__ = ["cardinal", "digits", "fraction", "number", "ordinal", "plural", "year"]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LONGEST = 15  # digits; the rules of Unicode's CLDR end there, in double precision
YEARS = range(1_010, 2_100)  # read in pairs; "fifteen hundred" fits a count too
FRACTIONS = {2: "half", 3: "third", 4: "quarter", 6: "sixth", 8: "eighth", 16: "sixteenth"}

RULES = RbnfEngine.for_language("en")


def digits(text: str) -> str:
    """Read ASCII digits one by one: `007` is "zero zero seven". Other characters are left out."""
    return " ".join(DIGITS[int(digit)] for digit in text if "0" <= digit <= "9")


def cardinal(text: str) -> str:
    """Read a whole number; one of more than 15 digits, or with a leading zero, digit by digit."""
    if len(text) > LONGEST or (text.startswith("0") and len(text) > 1):
        return digits(text)
    return _spell(text, "spellout-cardinal")


def number(text: str) -> str:
    """Read `1,234.50` or `.5`, whole digits in threes or not, decimals one by one."""
    whole, point, decimals = text.replace(",", "").partition(".")
    spoken = cardinal(whole or "0")
    return f"{spoken} point {digits(decimals)}" if point and decimals else spoken


def ordinal(text: str) -> str:
    """Read a whole number of at most 15 digits as a place in a row."""
    return _spell(text.replace(",", ""), "spellout-ordinal")


def year(text: str) -> str:
    """Read four digits as a year is read, and other numbers as they are."""
    if len(text) == 4 and int(text) in YEARS:
        return _spell(text, "spellout-numbering-year").replace("oh-", "oh ")
    return cardinal(text)


def fraction(numerator: int, denominator: int) -> str | None:
    """Read halves, thirds, quarters, sixths, eighths and sixteenths below one; None for others."""
    name = FRACTIONS.get(denominator)
    if name is None or not 0 < numerator < denominator:
        return None
    return f"{cardinal(str(numerator))} {name if numerator == 1 else plural(name)}"


def plural(noun: str) -> str:
    """Give the plural of a number word or unit: halves, sixties, feet, kilometres per hour."""
    first, per, rest = noun.partition(" per ")
    if first in IRREGULAR:
        return f"{IRREGULAR[first]}{per}{rest}"
    if first.endswith(("s", "ch")):
        return f"{first}es{per}{rest}"
    if first.endswith("y"):
        return f"{first[:-1]}ies{per}{rest}"
    return f"{first}s{per}{rest}"


IRREGULAR = {
    "degree Celsius": "degrees Celsius",
    "degree Fahrenheit": "degrees Fahrenheit",
    "foot": "feet",
    "half": "halves",
    "hertz": "hertz",
    "kilohertz": "kilohertz",
    "megahertz": "megahertz",
    "gigahertz": "gigahertz",
    "penny": "pence",
    "percent": "percent",
    "permille": "permille",
    "won": "won",
    "yen": "yen",
}


def _spell(whole: str, rules: str) -> str:
    return RULES.format_number(whole, ruleset_names=[rules]).text
