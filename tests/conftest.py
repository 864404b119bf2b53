"""Settings of the whole suite: one thread, no network, caches in a temporary folder."""

import os

import pytest

# Before torch is imported: many small products are slower with several threads, and results depend on their number.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before the Hub's client is imported, which reads it once: a test that reached for the network would be caught.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def _caches(tmp_path_factory):
    """Keep the user's cache of latents, and subprocesses of tests, out of each other's way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIT_CACHE", str(tmp_path_factory.mktemp("dit_cache")))
        yield
