"""Addresses as they are read aloud: of pages, of mail, of people and topics on the net."""

import re

from service.text.rule import Rule, rule
from service.text.vocabulary import TOP_LEVEL

__all__ = ["RULES"]

LONGEST_PATH = 30  # characters; what is longer, or holds more than words, is not read aloud
PATH = re.compile(r"(?:/[A-Za-z][A-Za-z-]*+)++")
TRAILING = ".,;:!?)]}'\"*"
CAPITALS = re.compile(r"(?<=[a-z])(?=[A-Z])")
SIGNS = {".": " dot ", "_": " underscore ", "+": " plus "}


def _page(found: re.Match[str]) -> str:
    address = found["address"]
    bare = address.rstrip(TRAILING)
    host, _, rest = re.sub(r"^[a-z]+://", "", bare, flags=re.IGNORECASE).partition("/")
    name, _, port = host.rpartition("@")[2].partition("?")[0].partition(":")
    spoken = _dotted(name.removeprefix("www."))
    if port.isdecimal():
        spoken += f" port {port}"
    path = f"/{rest}".rstrip("/")
    if PATH.fullmatch(path) and len(path) <= LONGEST_PATH:
        spoken += path.replace("/", " slash ")
    return spoken + address[len(bare) :]


def _mail(found: re.Match[str]) -> str:
    user = "".join(SIGNS.get(character, character) for character in found["user"])
    return f"{user} at {_dotted(found['host'])}"


def _dotted(host: str) -> str:
    return " dot ".join(label for label in host.split(".") if label)


def _topic(found: re.Match[str]) -> str:
    return "hashtag " + _name(found)


def _person(found: re.Match[str]) -> str:
    return "at " + _name(found)


def _name(found: re.Match[str]) -> str:
    return CAPITALS.sub(" ", found["name"].replace("_", " "))


LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})"
RULES: tuple[Rule, ...] = (
    rule(
        rf"(?<![\w.+-])(?P<user>[\w+-]{{1,64}}(?:\.[\w+-]{{1,64}}){{0,8}})"
        rf"@(?P<host>{LABEL}(?:\.{LABEL}){{1,8}})",
        _mail,
    ),
    rule(r"(?<!\w)(?P<address>(?i:https?|ftp|wss?)://[^\s<>\"]++)", _page),
    rule(r"(?<!\w)(?P<address>(?i:www)\.[A-Za-z0-9][^\s<>\"]*+)", _page),
    rule(
        rf"(?<![\w.@/-])(?P<address>(?:{LABEL}\.){{1,6}}(?:{TOP_LEVEL})(?![\w@-]|\.\w)"
        r"(?::\d{2,5})?(?:/[^\s<>\"]*+)?)",
        _page,
    ),
    rule(r"(?<![\w&#])#(?P<name>[A-Za-z]\w{0,138})", _topic),
    rule(r"(?<![\w@.])@(?P<name>[A-Za-z]\w{0,63})", _person),
    rule(r"(?<![\w#])#\s?(?=\d)", "number "),
)
