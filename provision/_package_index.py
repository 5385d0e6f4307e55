"""The Python package index that pip uses when nobody named another. Only pip itself knows it."""

from pip._internal.models.index import PyPI


def default_package_index() -> str:
    """Return the address of pip's default index, ending in ``/simple``."""
    return str(PyPI.simple_url).rstrip("/")
