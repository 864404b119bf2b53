"""What tests of whole runs compare theirs with."""

import pytest

from tests.training.test_loop import train


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    output = tmp_path_factory.mktemp("whole") / "run"
    train(output)
    return output
