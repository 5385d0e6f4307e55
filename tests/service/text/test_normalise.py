import re
import unicodedata

import pytest

from service.text import LONGEST_TEXT
from service.text.normalise import normalise

SPOKEN = {
    # Numbers
    "I have 3 cats and 21 dogs.": "I have three cats and twenty-one dogs.",
    "1,234,567 people": "one million two hundred thirty-four thousand five hundred sixty-seven"
    " people",
    "3.14 and .5": "three point one four and zero point five",
    "It is -5 outside.": "It is minus five outside.",
    "1st, 22nd and 101st": "first, twenty-second and one hundred first",
    "in 1999, 2005 and 2025": "in nineteen ninety-nine, two thousand five and twenty twenty-five",
    "the 1990s and the 80s": "the nineteen nineties and the eighties",
    "pages 5–10": "pages five to ten",  # noqa: RUF001 (the dash of a range)
    "1999-2005": "nineteen ninety-nine to two thousand five",
    "1/2, 3/4 and 2 1/2": "one half, three quarters and two and a half",
    "7/10 and 2½": "seven out of ten and two and a half",
    "10K users, 3.2M views": "ten thousand users, three point two million views",
    "2+2=4": "two plus two equals four",
    "3 < 5 and x > 4": "three is less than five and x is greater than four",
    "10^-3, 5², 2e6": "ten to the power of minus three, five squared,"
    " two times ten to the power of six",
    "1234567": "one two three four, five six seven",
    "007": "zero zero seven",
    "9" * 20: "nine nine nine nine, nine nine nine nine, nine nine nine nine,"
    " nine nine nine nine, nine nine nine nine",
    "COVID-19, MP3 and B2B": "COVID nineteen, MP three and B two B",
    "a 3-year-old": "a three-year-old",
    "a 16:9 screen": "a sixteen to nine screen",
    "v2.0.1 and 3.11.7": "version two point zero point one and three point eleven point seven",
    # Money
    "It costs $3.50.": "It costs three dollars and fifty cents.",
    "$1, $0.99 and $1.01": "one dollar, ninety-nine cents and one dollar and one cent",
    "€2m or £5 million": "two million euros or five million pounds",
    "1,200 USD": "one thousand two hundred US dollars",
    "CHF 20, ¥500, 5€": "twenty Swiss francs, five hundred yen, five euros",
    "$5-10 or -$5": "five to ten dollars or minus five dollars",
    "$5/month": "five dollars per month",
    # Dates and times
    "2025-03-14": "March fourteenth, twenty twenty-five",
    "3/14/2025": "March fourteenth, twenty twenty-five",
    "14/3/2025": "March fourteenth, twenty twenty-five",
    "March 14th 2025": "March fourteenth, twenty twenty-five",
    "on 14 March": "on the fourteenth of March",
    "March 14–16": "March fourteenth to sixteenth",  # noqa: RUF001 (the dash of a range)
    "Sept. 2025": "September twenty twenty-five",
    "May I? March on!": "May I? March on!",
    "2025-03-14T17:30:00Z": "March fourteenth, twenty twenty-five at seventeen thirty",
    "at 3:05pm": "at three oh five PM",
    "at 17:30 or 09:00": "at seventeen thirty or nine o'clock",
    "9am-5pm": "nine AM to five PM",
    "We met at 3 p.m. Then we left.": "We met at three PM. Then we left.",
    "We met at 3 p.m. on Monday.": "We met at three PM on Monday.",
    # Units
    "5 km, 1 kg, 3 GB": "five kilometres, one kilogram, three gigabytes",
    "10°C or 50 °F": "ten degrees Celsius or fifty degrees Fahrenheit",
    "60 mph and 5 km/h": "sixty miles per hour and five kilometres per hour",
    "a 5-km run": "a five kilometre run",
    "5–10%": "five to ten percent",  # noqa: RUF001 (the dash of a range)
    "He is 5'10\" tall": "He is five foot ten tall",
    # Digits one by one
    "+1 (555) 123-4567": "plus one, five five five, one two three, four five six seven",
    "020 7946 0958": "zero two zero, seven nine four six, zero nine five eight",
    "4111 1111 1111 1111": "four one one one, one one one one, one one one one, one one one one",
    # Words
    "Dr. Smith and Mr. Jones": "Doctor Smith and Mister Jones",
    "nuts, e.g. almonds, etc.": "nuts, for example almonds, et cetera.",
    "approx. 5 vs. 6": "approximately five versus six",
    "No. 5, but no. Not now.": "number five, but no. Not now.",
    "Main St. is near St. John's.": "Main Street is near Saint John's.",
    "the U.S. API and NASA": "the US API and NASA",
    "24/7 w/o C++": "twenty-four seven without C plus plus",
    "Henry VIII, World War II": "Henry the eighth, World War two",
    "Elizabeth I think": "Elizabeth I think",
    # Addresses
    "See https://www.example.com/docs?x=1.": "See example dot com.",
    "See https://example.com/docs.": "See example dot com slash docs.",
    "http://localhost:8000": "localhost port eight thousand",
    "mail maya@example.com": "mail maya at example dot com",
    "go to example.com": "go to example dot com",
    "#BlackLivesMatter @maya_x #5": "hashtag Black Lives Matter at maya x number five",
    "192.168.0.1": "one hundred ninety-two dot one hundred sixty-eight dot zero dot one",
    # Marks
    "# Title\n\nSome **bold** and *thin* text.": "Title. Some bold and thin text.",
    "- one\n- two": "one. two",
    "1. Open\n2. Go": "one, Open. two, Go",
    "- [ ] milk\n- [x] sleep": "milk. sleep",
    "[the docs](https://x.com) ![a cat](c.png)": "the docs a cat",
    "| a | b |\n|---|---|\n| 1 | 2 |": "a, b. one, two",
    "```python\nprint(x)\n```": "print, x",
    "use `make` now": "use make now",
    "2*3*4": "two times three times four",
    "snake_case": "snake case",
    "salt &amp; pepper": "salt and pepper",
    "50% @ home © Maya": "fifty percent at home copyright Maya",
    "A → B": "A to B",
    "she said — and left… Gone…": "she said, and left. Gone.",
    "well… maybe": "well, maybe",
    "Really?!! Yes!!!": "Really? Yes!",
    "Hello (you) there. (Yes.) Bye": "Hello, you, there. Yes. Bye",
    "as shown [12].": "as shown.",
    "“Hi,” she said, ‘hi’.": "Hi, she said, hi.",  # noqa: RUF001 (quotation marks)
    # Pictures
    "Hi 🙂 there 👍🏽 🇩🇪 👩‍👩‍👧": "Hi there",
    "1️⃣ first ©️ ❤️": "first",
    "Fine :) <3": "Fine",
    "🙂": "",
    "Ⅷ ５ H₂O": "VIII five H two O",  # noqa: RUF001 (a full-width digit)
}

PLAIN = [
    "Hello from Maya.",
    "It's five o'clock, isn't it? Don't!",
    "A well-kept, twenty-one-year-old secret; that is all: nothing.",
    "naïve café façade Zoë",
    "你好，世界！ Привет. ¿Qué tal? مرحبا؟ नमस्ते।",  # noqa: RUF001 (other scripts)
    "J. K. Rowling wrote it.",
    "",
]

WRITTEN = re.compile(r"[0-9*_`#\[\]|~<>\\/@%$&=+^{}()\"]|https?:|www\.\w")


@pytest.mark.parametrize("written", SPOKEN)
def test_what_is_written_is_read_aloud(written: str) -> None:
    assert normalise(written) == SPOKEN[written]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_comes_back_as_it_is(text: str) -> None:
    assert normalise(text) == text


@pytest.mark.parametrize("written", SPOKEN)
def test_reading_aloud_twice_changes_nothing_more(written: str) -> None:
    assert normalise(normalise(written)) == normalise(written)


@pytest.mark.parametrize("written", SPOKEN)
def test_nothing_is_left_that_is_not_speech(written: str) -> None:
    spoken = normalise(written)
    assert WRITTEN.search(spoken) is None
    assert not any(unicodedata.category(character) in ("So", "Cn", "Cf") for character in spoken)


HOSTILE = [
    *"a1.,-/:;'\"!?()[]{}<>#@$%&*_~^+=|\\° \n½🙂\ud800\x00\u0301",
    *("A.", "1,", "1.", "1-", "1:", "1/", "a@", "#a", "-1", "$1", "1%", "1.1.", "XL", "Henry X"),
    *("(1", "[1](", "www.", "http://", "'a'", "e.g.", "1e", "![", "**a ", "| a ", "> ", "\n- "),
    *("&amp;", "1️⃣", "12:30 ", "March 1", "555-", "5 km/h ", "p.m. ", "1 000 ", "... ", "No. "),
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_hostile_text_of_the_longest_kind_is_read_aloud(unit: str) -> None:
    """Each takes well under a second; what is not linear would hold up the whole suite."""
    assert WRITTEN.search(normalise((unit * LONGEST_TEXT)[:LONGEST_TEXT])) is None


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_hostile_text_is_read_aloud_once(unit: str) -> None:
    spoken = normalise((unit * 300)[:300])
    assert normalise(spoken) == spoken
