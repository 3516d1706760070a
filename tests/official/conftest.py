"""Weights in float32, in which the official numbers were recorded."""

from collections.abc import Iterator

import pytest

from tests.precision import in_float32


@pytest.fixture(scope="module", autouse=True)
def float32() -> Iterator[None]:
    with in_float32():
        yield
