"""The models under contract as a fixture, and how each is dreamt."""

import pytest

from tests.contract.models import MODELS


@pytest.fixture(params=[factory for _, factory in MODELS], ids=[name for name, _ in MODELS])
def model(request):
    return request.param()
