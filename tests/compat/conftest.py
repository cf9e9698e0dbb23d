import pytest

from retinue import compat


@pytest.fixture
def hook():
    """The import hook, for one test."""
    compat.install()
    yield compat
    compat.uninstall()
