"""Every backend, for tests of the native connection alone."""

from __future__ import annotations

import pytest

from ..conftest import BACKENDS


@pytest.fixture(params=[pytest.param(backend, id=name) for name, backend in BACKENDS.items()])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param
