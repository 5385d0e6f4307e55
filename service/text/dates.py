"""Dates and times of day as they are read aloud."""

import re

from service.text.numbers import cardinal, ordinal, year
from service.text.rule import Rule, any_of, rule
from service.text.vocabulary import MONTH_NAMES, MONTHS, WEEKDAYS

__all__ = ["RULES"]

HOURS_ON_A_CLOCK = 12

MONTH = any_of([name.title() for name in MONTH_NAMES])
DOT = r"(?:\.(?=,? ?\d|,| [a-z]))?"  # the stop of an abbreviation, not of the sentence
DAY = r"(?:0?[1-9]|[12]\d|3[01])"
SUFFIX = r"(?:st|nd|rd|th)?"
YEAR = r"(?P<year>[12]\d{3})(?![\d.,]\d|\d)"
UNTIL = r"\s?(?:-|\u2013|to|and)\s?"
CLOCK = r"(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)(?:\.\d{1,9})?)?"


def _iso(found: re.Match[str]) -> str:
    day = _month_first(found, int(found["month"]), found["day"])
    return f"{day} at {_clock(found)}" if found["hour"] else day


def _slashed(found: re.Match[str]) -> str:
    first, second = int(found["first"]), int(found["second"])
    month, day = (second, first) if first > len(MONTHS) else (first, second)
    return _numeric(found, month, day)


def _dotted(found: re.Match[str]) -> str:
    return _numeric(found, int(found["second"]), int(found["first"]))


def _numeric(found: re.Match[str], month: int, day: int) -> str:
    if not (1 <= month <= len(MONTHS) and 1 <= day <= 31):  # the longest month
        return found[0]
    return _month_first(found, month, str(day))


def _month_first(found: re.Match[str], month: int, day: str) -> str:
    spoken = f"{MONTHS[month - 1]} {ordinal(day)}"
    return f"{spoken}, {_year(found['year'])}" if found["year"] else spoken


def _year(written: str) -> str:
    return year(written if len(written) == 4 else f"20{written}")


def _named_first(found: re.Match[str]) -> str:
    until = f" to {ordinal(found['until'])}" if found["until"] else ""
    after = f", {_year(found['year'])}" if found["year"] else ""
    return f"{_named(found)} {ordinal(found['day'])}{until}{after}"


def _day_first(found: re.Match[str]) -> str:
    until = f" to the {ordinal(found['until'])}" if found["until"] else ""
    after = f", {_year(found['year'])}" if found["year"] else ""
    return f"the {ordinal(found['day'])}{until} of {_named(found)}{after}"


def _month_and_year(found: re.Match[str]) -> str:
    return f"{_named(found)} {_year(found['year'])}"


def _named(found: re.Match[str]) -> str:
    return MONTH_NAMES[found["month"].lower()]


def _half_day(found: re.Match[str]) -> str:
    hour, minute = int(found["hour"]), int(found["minute"] or 0)
    past = f" {_minute(minute)}" if minute else ""
    return (
        f"{cardinal(str(hour))}{past} {found['half'].upper()}M{'' if found['end'] is None else '.'}"
    )


def _clock(found: re.Match[str]) -> str:
    hour, minute, second = (int(found[part] or 0) for part in ("hour", "minute", "second"))
    if minute:
        spoken = f"{cardinal(str(hour))} {_minute(minute)}"
    elif 1 <= hour <= HOURS_ON_A_CLOCK:
        spoken = f"{cardinal(str(hour))} o'clock"
    else:
        spoken = f"{cardinal(str(hour))} hundred" if hour else "midnight"
    seconds = f" and {cardinal(str(second))} second{'s' * (second != 1)}" if second else ""
    return spoken + seconds


def _minute(minute: int) -> str:
    return f"oh {cardinal(str(minute))}" if minute < 10 else cardinal(str(minute))


RULES: tuple[Rule, ...] = (
    rule(
        rf"(?<![\d.,-])(?P<year>[12]\d{{3}})-(?P<month>0[1-9]|1[0-2])-(?P<day>{DAY})"
        rf"(?:T{CLOCK}(?:Z|[+-]\d{{2}}:?\d{{2}})?)?(?![\d-])",
        _iso,
    ),
    rule(
        r"(?<![\d/.])(?P<first>\d{1,2})/(?P<second>\d{1,2})/(?P<year>\d{4}|\d{2})(?![\d/])",
        _slashed,
    ),
    rule(r"(?<![\d.])(?P<first>\d{1,2})\.(?P<second>\d{1,2})\.(?P<year>\d{4})(?!\d)", _dotted),
    rule(rf"(?<=\d)\s?[-\u2013]\s?(?=(?:{MONTH})\b)", " to "),
    rule(
        rf"(?<!\w)(?:{any_of(WEEKDAYS)})\.?(?=,? (?:(?:{MONTH})\b|\d))",
        lambda found: WEEKDAYS[found[0].rstrip(".")],
    ),
    rule(
        rf"(?<!\w)(?P<month>{MONTH}){DOT} (?P<day>{DAY}){SUFFIX}(?![\d:.]\d|\d|[A-Za-z%]|/)"
        rf"(?:{UNTIL}(?P<until>{DAY}){SUFFIX}(?![\d:]|\.\d))?(?:,? {YEAR})?",
        _named_first,
    ),
    rule(
        rf"(?<![\w.,/:-])(?:the )?(?P<day>{DAY}){SUFFIX}(?:{UNTIL}(?P<until>{DAY}){SUFFIX})?"
        rf" (?:of )?(?P<month>{MONTH}){DOT}(?!\w)(?:,? {YEAR})?",
        _day_first,
    ),
    rule(rf"(?<!\w)(?P<month>{MONTH}){DOT},? {YEAR}", _month_and_year),
    rule(
        r"(?<![\d:.,])(\d{1,2}(?::[0-5]\d)?(?:\s?[aApP]\.?[mM]\.?)?)\s?[-\u2013\u2014]\s?"
        r"(?=\d{1,2}(?::[0-5]\d|\s?[aApP]\.?[mM]\b))",
        r"\1 to ",
    ),
    rule(
        r"(?<![\d:.,])(?P<hour>0?[1-9]|1[0-2])(?:[:.](?P<minute>[0-5]\d))?\s?"
        r"(?P<half>[apAP])(?:[mM]\b|\.\s?[mM]\b(?:\.(?P<end>$|(?=\s[A-Z](?!\w{2,5}day|[A-Z])))?)?)",
        _half_day,
    ),
    rule(rf"(?<![\d:.,]){CLOCK}(?:\s?(?:h|hrs|hours)\b)?(?![\d:])", _clock),
)
