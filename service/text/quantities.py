"""Numbers as they are read aloud: counts, money, measures, ranges, telephone numbers, versions."""

import re

from service.text.numbers import cardinal, digits, fraction, number, ordinal, plural, year
from service.text.rule import Rule, any_of, rule
from service.text.vocabulary import (
    BARE_MAGNITUDES,
    MAGNITUDES,
    MONEY,
    UNITS,
)

__all__ = ["RULES"]

# Bounded: a run of digits is read from its beginning only, and longer runs are gone before.
NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,5}(?!\d)|\d{1,15})(?:\.\d{1,15})?"
BEGIN = r"(?<!\d)(?<!\d[.,])"
ALONE = r"(?<![A-Za-z\d])(?<!\d[.,])"  # H2s and B2B count nothing
UNTIL = r"\s?(?:-|\u2013|\u2014|to)\s?"
RANGED = rf"(?P<amount>{NUMBER})(?:{UNTIL}(?P<until>{NUMBER}))?"
CODES = any_of([name for name in MONEY if name.isalpha()])
SIGNS = any_of([name for name in MONEY if not name.isalpha()])
MAGNITUDE = rf"(?:{any_of(MAGNITUDES)})(?![A-Za-z])"
UNIT = rf"(?:{any_of(UNITS)})(?![\w²³])"
PERIODS = "second|minute|hour|day|night|week|month|year|person|user|seat|request|token|litre|kilo"
CENTS = re.compile(r"(?P<whole>[\d,]+)\.(?P<cents>\d\d)")
GROUP = 4  # digits read in one breath

POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def _money(found: re.Match[str]) -> str:
    one, hundredth = MONEY[found["sign"].strip()]
    amount, magnitude = found["amount"], found["magnitude"]
    cents = CENTS.fullmatch(amount)
    if cents and hundredth and not magnitude and not found["until"]:
        return _coins(cents["whole"].replace(",", ""), cents["cents"], one, hundredth)
    spoken = number(amount)
    if found["until"]:
        spoken += f" to {number(found['until'])}"
    if magnitude:
        spoken += f" {MAGNITUDES[magnitude]}"
    single = amount == "1" and not found["until"] and not magnitude
    return f"{spoken} {one if single else plural(one)}"


def _coins(whole: str, cents: str, one: str, hundredth: str) -> str:
    parts = []
    if int(whole) or not int(cents):
        parts.append(f"{cardinal(whole)} {one if whole == '1' else plural(one)}")
    if int(cents):
        parts.append(
            f"{cardinal(str(int(cents)))} {hundredth if cents == '01' else plural(hundredth)}"
        )
    return " and ".join(parts)


def _measure(found: re.Match[str]) -> str:
    unit = UNITS[found["unit"]]
    single = found["amount"] == "1" and not found["until"]
    spoken = number(found["amount"])
    if found["until"]:
        spoken += f" to {number(found['until'])}"
    return f"{spoken} {unit if single or found['hyphen'] else plural(unit)}"


def _feet(found: re.Match[str]) -> str:
    return f"{cardinal(found['feet'])} foot {cardinal(found['inches'])}"


def _magnitude(found: re.Match[str]) -> str:
    return f"{number(found['amount'])} {MAGNITUDES[found['magnitude']]}"


def _telephone(found: re.Match[str]) -> str:
    plus = "plus " if found[0].startswith("+") else ""
    return plus + ", ".join(digits(group) for group in re.findall(r"\d+", found[0]))


def _long(found: re.Match[str]) -> str:
    run = found[0]
    if run.endswith("000") and not run.startswith("0"):
        return cardinal(run)
    return ", ".join(digits(run[at : at + GROUP]) for at in range(0, len(run), GROUP))


def _thousands(found: re.Match[str]) -> str:
    return found[0].replace(" ", "")


def _dotted(found: re.Match[str]) -> str:
    parts = found["parts"].split(".")
    point = " dot " if len(parts) == 4 else " point "  # an address of the net
    return point.join(cardinal(part) for part in parts)


def _version(found: re.Match[str]) -> str:
    return f"version {' point '.join(cardinal(part) for part in found['parts'].split('.'))}"


def _fraction(found: re.Match[str]) -> str:
    above, below = found["above"], found["below"]
    part = fraction(int(above), int(below))
    if part is None:
        return f"{found['whole'] or ''} {cardinal(above)} out of {cardinal(below)}".strip()
    unit = f" {UNITS[found['unit']]}" if found["unit"] else ""
    if not found["whole"]:
        return part + unit
    return f"{cardinal(found['whole'])} and {part.replace('one ', 'a ')}{unit and plural(unit)}"


def _power(found: re.Match[str]) -> str:
    return f"{found['base']} to the power of {_signed(found['power'].translate(POWERS))}"


def _scientific(found: re.Match[str]) -> str:
    return f"{number(found['amount'])} times ten to the power of {_signed(found['power'])}"


def _signed(written: str) -> str:
    minus = "minus " if written.startswith("-") else ""
    return minus + written.lstrip("+-")


def _decade(found: re.Match[str]) -> str:
    return plural(year(found["decade"]))


def _plain(found: re.Match[str]) -> str:
    written = found[0]
    return year(written) if written.isdecimal() else number(written)


FEET_AND_INCHES = rule(r"(?<![\w.])(?P<feet>\d)'\s?(?P<inches>\d{1,2})(?:\"|'')", _feet)

RULES: tuple[Rule, ...] = (
    rule(r"(?<=\d)[\u00a0\u2009\u202f'](?=\d{3}(?!\d))", ","),
    rule(r"(?<!\d)(?<!\d )(\d{1,3})((?: 000){1,4})(?!\d| \d)", _thousands),
    rule(r"(?<=\d)\.(\d{16,})", lambda found: f" point {digits(found[1])}"),
    rule(r"\d{16,}", _long),
    rule(r"(?<![\w.])\.(?=\d)", "0."),
    rule(r"~\s?(?=\d)", "about "),
    rule(r"(?<=\w)(?:<| < )(?=-?\d)", " is less than "),
    rule(r"(?<=\w)(?:>| > )(?=-?\d)", " is greater than "),
    rule(r"< ?(?=\d)", "less than "),
    rule(r"> ?(?=\d)", "more than "),
    rule(r"(?<![\w)\].,%°'^\u2013-])[-\u2212](?=[$€£¥₹]?\d)", "minus "),
    rule(
        r"(?<![\w+-])\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}(?!\d)",
        _telephone,
    ),
    rule(r"(?<![\d-])(?:1-)?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\d-])", _telephone),
    rule(r"(?<![\d$€£,.-])\d{3}-\d{4}(?![\d%-]| ?(?:km|kg|m|g|ml)\b)", _telephone),
    rule(r"(?<!\d)(?<!\d[ .,-])\(?0\d{2,4}\)?(?:[ -]\d{3,4}){1,3}(?!\d)", _telephone),
    rule(r"(?<![\d-])\d{1,8}(?:-\d{1,8}){2,8}(?![\d-])", _telephone),
    rule(r"(?<!\d)(?<!\d )\d{4}(?: \d{4}){2,4}(?!\d)", _telephone),
    rule(
        r"(?<![\d.,])(?P<from>[12]\d{3})(?:/|-|\u2013)(?P<until>[1-9]\d)(?![\d/]|[.,-]\d|\s?%)",
        lambda found: f"{year(found['from'])} to {cardinal(found['until'])}",
    ),
    rule(rf"{BEGIN}(?P<decade>[1-9]\d?\d?0)['\u2019]?s\b", _decade),
    rule(r"(?<!\w)'(?P<decade>[1-9]0)s\b", _decade),
    rule(r"(?<=[A-Za-z])(?<!\d[eE])-(?=\d)", " "),
    rule(r"(?<!\w)[vV](?:\.|ersion)?\s?(?P<parts>\d{1,15}(?:\.\d{1,15}){0,4})", _version),
    rule(r"(?<![\d.])(?P<parts>\d{1,15}(?:\.\d{1,15}){2,5})(?!\.?\d)", _dotted),
    rule(rf"(?<=\d)(\s?[A-Za-z%°]{{0,4}})/({PERIODS})\b", r"\1 per \2"),
    rule(
        rf"(?P<sign>{SIGNS}|\b(?:{CODES})\s)\s?(?P<amount>{NUMBER})"
        rf"(?:{UNTIL}(?:{SIGNS})?(?P<until>{NUMBER}))?(?:\s?(?P<magnitude>{MAGNITUDE}))?"
        rf"(?:\s(?:{CODES})\b)?",
        _money,
    ),
    rule(
        rf"{BEGIN}{RANGED}(?:\s?(?P<magnitude>{MAGNITUDE}))?"
        rf"\s?(?P<sign>{SIGNS}|(?:{CODES})(?!\w))",
        _money,
    ),
    rule(r"(?<=\d)\s?(%|°[CF]?)\s?[-\u2013\u2014](?=\d{1,9}(?:\.\d{1,9})?\s?\1)", "-"),
    rule(
        rf"(?<![\d/.,])(?:(?P<whole>\d{{1,6}}) )?(?P<above>\d{{1,4}})/(?P<below>[1-9]\d{{0,3}})"
        rf"(?![\d/])(?:\s?(?P<unit>{UNIT}))?",
        _fraction,
    ),
    rule(
        rf"{ALONE}{RANGED}(?:(?P<hyphen>-)|\s)?(?P<unit>{UNIT})",
        _measure,
    ),
    rule(
        rf"{BEGIN}(?P<amount>\d{{1,6}}(?:\.\d{{1,6}})?)[eE](?P<power>[+-]?\d{{1,3}})(?!\w)",
        _scientific,
    ),
    rule(
        rf"{BEGIN}(\d{{1,3}}(?:,\d{{3}}){{1,4}}|\d{{1,15}})(?:st|nd|rd|th)\b",
        lambda found: ordinal(found[1]),
    ),
    rule(
        rf"{ALONE}(?P<amount>{NUMBER})(?P<magnitude>{any_of(BARE_MAGNITUDES)})(?![\w])",
        _magnitude,
    ),
    rule(
        r"(?P<base>(?<!\d)\d{1,15}|\b[A-Za-z])(?:\^|(?=[⁰¹⁴-⁹⁻]))"
        r"(?P<power>-?\d{1,15}|[⁰¹²³⁴-⁹⁻]{1,15})",
        _power,
    ),
    rule(r"(?<=\d)\s[-\u2212]\s(?=\d)", " minus "),
    rule(r"(?<=\d)\s?[\u2013\u2014-]\s?(?=\d)", " to "),
    rule(r"(?<=\d)[x\u00d7](?=\d)", " by "),
    rule(r"(?<=\d)\s[x\u00d7]\s(?=\d)", " times "),
    rule(r"(?<=\d):(?=\d)", " to "),
    rule(r"(?:(?<=^)|(?<=[.!?:;] ))(\d{1,3})[.)] (?=\S)", lambda found: f"{cardinal(found[1])}, "),
    rule(r"(?<![\d,.])\d{7,15}(?![\d,]|\.\d)", _long),
    rule(NUMBER, _plain),
)
