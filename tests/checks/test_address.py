import pytest

from checks.address import AddressError, is_loopback, normalise


@pytest.mark.parametrize(
    ("typed", "base"),
    [
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("localhost:8000", "http://localhost:8000"),
        ("localhost", "http://localhost"),
        (" localhost:8000\n", "http://localhost:8000"),
        ("10.0.0.7:8000/health", "http://10.0.0.7:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("HTTP://LOCALHOST:8000", "http://localhost:8000"),
        ("http://host:8000/api/v1/generate", "http://host:8000"),
        ("http://host:8000/api/v1/generate/", "http://host:8000"),
        ("https://example.org/voice/api/v1/generate", "https://example.org/voice"),
        ("https://example.org/voice/", "https://example.org/voice"),
    ],
)
def test_an_address_is_understood_as_people_write_it(typed: str, base: str) -> None:
    assert normalise(typed) == base


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("htp:/x", "starts with http:// or https://"),
        ("htp://x", "only http and https"),
        ("ftp://host/", "only http and https"),
        ("", "names no host"),
        ("http://", "names no host"),
        (":8000", "names no host"),
        ("http://host:99999", "port"),
        ("http://host:0", "port"),
        ("http://host:port", "port"),
        ("http://ho st", "no spaces"),
        ("http://[::1", "not a URL"),
        ("http://host/?voice=maya", "leave out"),
        ("http://host/#top", "leave out"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(typed: str, reason: str) -> None:
    with pytest.raises(AddressError, match="(?i)" + reason):
        normalise(typed)


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(AddressError) as refusal:
        normalise("http://maya:pa55@host:8000")
    assert "pa55" not in str(refusal.value)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("http://localhost:8000", True),
        ("http://voice.localhost", True),
        ("http://127.8.9.1", True),
        ("http://[::1]:8000", True),
        ("http://0.0.0.0:8000", True),
        ("http://10.0.0.7", False),
        ("http://localhost.example.org", False),
    ],
)
def test_loopback_is_told_from_the_rest(base: str, expected: bool) -> None:
    assert is_loopback(base) is expected
