import time

import pytest

from service.errors import TextEmptyError, TextTooLongError
from service.text import LONGEST_TEXT, Pause, Segment, Words, segments


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("  Hello from Maya \n", "Hello from Maya"),
        ("one\ttwo\r\nthree\u00a0four\x00five", "one two three four five"),
        ("ring \x07the\x1b[0m bell", "ring the [0m bell"),
        ("zero\u200bwidth \u202ebidi\u202c \ufeffmark", "zerowidth bidi mark"),
        ("half an emoji \ud83d here", "half an emoji here"),
        ("cafe\u0301", "café"),
        ("3 < 5 and 6 > 4", "3 < 5 and 6 > 4"),
        ("a <b and c> d", "a <b and c> d"),
        ("x<5, y>2", "x<5, y>2"),
        ('<speak>Hello <emphasis level="strong">there</emphasis></speak>', "Hello there"),
        ("<prosody rate='slow' pitch=\"-2st\">Be still.</prosody>", "Be still."),
        ("<em>Yes</em>, <pace-slow>slowly</pace-slow>", "Yes, slowly"),
        ("un<em>believ</em>able", "unbelievable"),
        ("<p>One.</p><p>Two.</p>", "One. Two."),
        ('<?xml version="1.0"?><!-- a note --><speak>Hi</speak>', "Hi"),
        ("salt &amp; pepper", "salt & pepper"),
        ("no time given<pause duration='?'/>at all", "no time given at all"),
        ('<break strength="none"/>Hm', "Hm"),
        ('<break strength="mighty"/>Hm', "Hm"),
        ('<sub alias="Tom &amp; Sons">T&amp;S</sub>', "Tom & Sons"),
        ('the <say-as interpret-as="characters">API</say-as>', "the A P I"),
        ('<say-as interpret-as="cardinal">12</say-as> cats', "12 cats"),
        ("# Title\n\nSome **bold** text", "Title. Some bold text"),
        ("- one\n- two", "one. two"),
        ("press 1️⃣ now :)", "press now"),
        ('<pause duration="long"/>Hm', "Hm"),
        ("--version", "--version"),
    ],
)
def test_only_what_is_meant_to_be_spoken_is_left(text: str, spoken: str) -> None:
    assert segments(text) == (Words(spoken),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Wait <pause duration="400ms"/> for it', (Words("Wait"), Pause(0.4), Words("for it"))),
        ('Wait<break time="1.5s"/>for it', (Words("Wait"), Pause(1.5), Words("for it"))),
        ("Wait <pause-200ms> for it", (Words("Wait"), Pause(0.2), Words("for it"))),
        ('<break time="2s"/>Late', (Pause(2), Words("Late"))),
        ('Early<break time=".5s"/>', (Words("Early"), Pause(0.5))),
        ('Long<break time="90s"/>', (Words("Long"), Pause(3))),
        (
            'Two<break time="2s"/> <break time="2s"/>pauses',
            (Words("Two"), Pause(3), Words("pauses")),
        ),
        ('None<break time="0s"/>here', (Words("None here"),)),
        ("Plain<break/>break", (Words("Plain"), Pause(0.75), Words("break"))),
        ('A<break strength="weak"/>b', (Words("A"), Pause(0.5), Words("b"))),
        ('A<break strength="x-strong"/>b', (Words("A"), Pause(1.25), Words("b"))),
        ('A<break strength="weak" time="2s"/>b', (Words("A"), Pause(2), Words("b"))),
    ],
)
def test_a_pause_becomes_silence_of_at_most_three_seconds(
    text: str, expected: tuple[Segment, ...]
) -> None:
    assert segments(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "   \n", "…!?", '<break time="1s"/>', "<em></em>", "\ud800", "\u0301", "\x00"),
        *("🙂", "1️⃣", "#️⃣ 2️⃣", "🇩🇪", "👩\u200d👩\u200d👧 👍🏽", "©️ \u2139️ ❤️", ":) :D", "**", "---"),
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    ],
)
def test_text_without_a_letter_or_digit_is_empty(text: str) -> None:
    with pytest.raises(TextEmptyError):
        segments(text)


def test_the_longest_text_is_counted_after_trimming() -> None:
    assert segments("  " + "a" * LONGEST_TEXT + "\n") == (Words("a" * LONGEST_TEXT),)


def test_a_text_over_the_limit_is_refused_with_the_limit() -> None:
    with pytest.raises(TextTooLongError, match="5001 characters; at most 5000"):
        segments("a" * 5_001)


@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "<a",
        "<a b=c ",
        "<a b='",
        "<!--",
        "<?",
        "a<b c=d/",
        "![",
        "<sub alias='",
        "<say-as interpret-as=a>",
    ],
)
def test_hostile_mark_up_costs_little_time(unit: str) -> None:
    text = "a" + unit * (4_999 // len(unit))
    started = time.process_time()
    segments(text)
    assert time.process_time() - started < 0.5
