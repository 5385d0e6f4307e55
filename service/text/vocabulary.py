"""How written forms are said, as tables: units, money, months, abbreviations, symbols.

It knows no grammar: normalise.py says where each form counts.
"""

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
MONTH_NAMES = (
    {name.lower(): name for name in MONTHS}
    | {name[:3].lower(): name for name in MONTHS}
    | {"sept": "September"}
)

WEEKDAYS = {
    "Mon": "Monday",
    "Tue": "Tuesday",
    "Tues": "Tuesday",
    "Wed": "Wednesday",
    "Thu": "Thursday",
    "Thur": "Thursday",
    "Thurs": "Thursday",
    "Fri": "Friday",
    "Sat": "Saturday",
    "Sun": "Sunday",
}

# symbol or code → one of it, a hundredth of it ("" where there is none)
MONEY = {
    "$": ("dollar", "cent"),
    "US$": ("US dollar", "cent"),
    "A$": ("Australian dollar", "cent"),
    "C$": ("Canadian dollar", "cent"),
    "€": ("euro", "cent"),
    "£": ("pound", "penny"),
    "¥": ("yen", ""),
    "₹": ("rupee", "paisa"),
    "₩": ("won", ""),
    "₽": ("rouble", "kopeck"),
    "₺": ("lira", ""),
    "₿": ("bitcoin", ""),
    "USD": ("US dollar", "cent"),
    "EUR": ("euro", "cent"),
    "GBP": ("pound", "penny"),
    "JPY": ("yen", ""),
    "CHF": ("Swiss franc", ""),
    "CAD": ("Canadian dollar", "cent"),
    "AUD": ("Australian dollar", "cent"),
    "INR": ("rupee", "paisa"),
}

MAGNITUDES = {
    "k": "thousand",
    "K": "thousand",
    "m": "million",
    "M": "million",
    "mn": "million",
    "mio": "million",
    "bn": "billion",
    "b": "billion",
    "B": "billion",
    "tn": "trillion",
    "T": "trillion",
    "thousand": "thousand",
    "million": "million",
    "billion": "billion",
    "trillion": "trillion",
}
BARE_MAGNITUDES = ("k", "K", "M", "mn", "bn", "B")
"""Those that count after a number that is not money: 5 m are metres, 5 T is no trillion."""

UNITS = {
    "km": "kilometre",
    "m": "metre",
    "cm": "centimetre",
    "mm": "millimetre",
    "µm": "micrometre",
    "μm": "micrometre",
    "nm": "nanometre",
    "mi": "mile",
    "ft": "foot",
    "yd": "yard",
    "km²": "square kilometre",
    "m²": "square metre",
    "cm²": "square centimetre",
    "m³": "cubic metre",
    "cm³": "cubic centimetre",
    "sqm": "square metre",
    "ha": "hectare",
    "km/h": "kilometre per hour",
    "kmh": "kilometre per hour",
    "kph": "kilometre per hour",
    "m/s": "metre per second",
    "mph": "mile per hour",
    "kg": "kilogram",
    "g": "gram",
    "mg": "milligram",
    "µg": "microgram",
    "μg": "microgram",
    "lb": "pound",
    "lbs": "pound",
    "oz": "ounce",
    "l": "litre",
    "L": "litre",
    "dl": "decilitre",
    "cl": "centilitre",
    "ml": "millilitre",
    "mL": "millilitre",
    "h": "hour",
    "hr": "hour",
    "hrs": "hour",
    "min": "minute",
    "mins": "minute",
    "s": "second",
    "sec": "second",
    "secs": "second",
    "ms": "millisecond",
    "µs": "microsecond",
    "μs": "microsecond",
    "ns": "nanosecond",
    "B/s": "byte per second",
    "KB": "kilobyte",
    "kB": "kilobyte",
    "MB": "megabyte",
    "GB": "gigabyte",
    "TB": "terabyte",
    "PB": "petabyte",
    "KiB": "kibibyte",
    "MiB": "mebibyte",
    "GiB": "gibibyte",
    "TiB": "tebibyte",
    "MB/s": "megabyte per second",
    "GB/s": "gigabyte per second",
    "TB/s": "terabyte per second",
    "kbit/s": "kilobit per second",
    "Mbit/s": "megabit per second",
    "Gbit/s": "gigabit per second",
    "kbps": "kilobit per second",
    "Mbps": "megabit per second",
    "Gbps": "gigabit per second",
    "Hz": "hertz",
    "kHz": "kilohertz",
    "MHz": "megahertz",
    "GHz": "gigahertz",
    "W": "watt",
    "kW": "kilowatt",
    "MW": "megawatt",
    "GW": "gigawatt",
    "Wh": "watt hour",
    "kWh": "kilowatt hour",
    "V": "volt",
    "kV": "kilovolt",
    "mA": "milliampere",
    "mAh": "milliampere hour",
    "Ω": "ohm",
    "dB": "decibel",
    "px": "pixel",
    "fps": "frame per second",
    "rpm": "revolution per minute",
    "kcal": "kilocalorie",
    "kJ": "kilojoule",
    "Pa": "pascal",
    "hPa": "hectopascal",
    "kPa": "kilopascal",
    "bar": "bar",
    "psi": "pound per square inch",
    "°C": "degree Celsius",
    "°F": "degree Fahrenheit",
    "°": "degree",
    "%": "percent",
    "‰": "permille",
    "¢": "cent",
}

TITLES = {
    "Dr": "Doctor",
    "Mr": "Mister",
    "Mrs": "Missus",
    "Ms": "Miz",
    "Prof": "Professor",
    "Rev": "Reverend",
    "Gen": "General",
    "Col": "Colonel",
    "Capt": "Captain",
    "Lt": "Lieutenant",
    "Sgt": "Sergeant",
    "Gov": "Governor",
    "Sen": "Senator",
    "Hon": "Honourable",
    "St": "Saint",
    "Mt": "Mount",
    "Ft": "Fort",
}
"""Said so, with their full stop, before a name in capitals."""

ABBREVIATIONS = {
    "e.g.": "for example",
    "eg.": "for example",
    "i.e.": "that is",
    "ie.": "that is",
    "vs.": "versus",
    "approx.": "approximately",
    "cf.": "compare",
    "ca.": "about",
    "et al.": "and others",
    "viz.": "namely",
    "dept.": "department",
    "govt.": "government",
    "misc.": "miscellaneous",
    "incl.": "including",
    "excl.": "excluding",
}
"""None of them ends a sentence."""

ENDINGS = {
    "etc": "et cetera",
    "Jr": "Junior",
    "Sr": "Senior",
    "Inc": "Incorporated",
    "Ltd": "Limited",
    "Corp": "Corporation",
    "Co": "Company",
    "Bros": "Brothers",
    "Ave": "Avenue",
    "Blvd": "Boulevard",
    "Rd": "Road",
    "St": "Street",
}
"""Their full stop may end the sentence as well."""

COUNTED = {
    "No": "number",
    "no": "number",
    "Nos": "numbers",
    "Nr": "number",
    "p": "page",
    "pp": "pages",
    "Fig": "figure",
    "fig": "figure",
    "Figs": "figures",
    "Sec": "section",
    "sec": "section",
    "Ch": "chapter",
    "ch": "chapter",
    "Vol": "volume",
    "vol": "volume",
    "Eq": "equation",
    "eq": "equation",
    "Art": "article",
    "ca": "about",
    "c": "about",
}
"""Said so, with their full stop, before a number."""

SET_PHRASES = {
    "4K": "four K",
    "8K": "eight K",
    "24/7": "twenty-four seven",
    "9/11": "nine eleven",
    "50/50": "fifty-fifty",
    "and/or": "and or",
    "w/o": "without",
    "w/": "with",
    "C++": "C plus plus",
    "C#": "C sharp",
    "F#": "F sharp",
    ".NET": "dot net",
    "N/A": "not applicable",
    "n/a": "not applicable",
    "a.k.a.": "also known as",
    "R&B": "R and B",
    "TCP/IP": "TCP IP",
}

MONARCHS = (
    "Alexander|Alfonso|Benedict|Catherine|Charles|Clement|Edward|Elizabeth|Ferdinand|Francis|"
    "Frederick|George|Gregory|Harald|Haakon|Henry|Innocent|Ivan|James|John Paul|John|Leo|Leopold|"
    "Louis|Napoleon|Nicholas|Olaf|Paul|Peter|Philip|Pius|Ptolemy|Ramesses|Ramses|Richard|Thutmose|"
    "Urban|Wilhelm|William"
)
"""Names that a Roman number follows as an ordinal."""

NUMBERED = (
    "Act|Appendix|Article|Book|Chapter|Class|Episode|Grade|Level|Part|Phase|Section|Stage|"
    "Super Bowl|Title|Type|Vatican|Volume|World War"
)
"""Words that a Roman number follows as a cardinal."""

SYMBOLS = {
    "&": "and",
    "+": "plus",
    "=": "equals",
    "\u00d7": "times",
    "÷": "divided by",
    "\u2212": "minus",
    "±": "plus or minus",
    "≈": "is about",
    "≠": "is not equal to",
    "≤": "is at most",
    "≥": "is at least",
    "√": "the square root of",
    "∞": "infinity",
    "π": "pi",
    "%": "percent",
    "‰": "permille",
    "°": "degrees",
    "©": "copyright",
    "№": "number",
    "§": "section",
    "→": "to",
    "⇒": "so",
    "@": "at",
    "€": "euro",
    "£": "pound",
    "¥": "yen",
    "²": "squared",
    "³": "cubed",
}
"""Said as a word wherever no rule has taken them."""

TOP_LEVEL = (
    "ai|app|at|au|biz|ca|ch|cloud|cn|co|com|de|dev|edu|es|eu|fi|fr|gov|health|ie|info|int|io|it|jp|"
    "me|mil|name|net|nl|no|nz|org|pl|pro|pt|ru|se|shop|site|tech|tv|uk|us|xyz"
)
"""Endings that make dotted words without `https://` an address."""
