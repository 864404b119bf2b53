"""Files from outside of the Hub."""

import pytest

from dit.errors import DitError
from dit.files import sha256
from dit.zoo.hub import download


@pytest.fixture
def fetched(monkeypatch):
    monkeypatch.setattr(download, "_continue_download", lambda address, part: part.write_text(address))


def test_a_file_is_called_as_its_address_without_what_is_asked_of_the_server(tmp_path, fetched):
    found = download.download_address("https://example.com/a/last.pt?key=1&dl=0", tmp_path)
    assert found == tmp_path / "last.pt"


def test_a_file_with_another_hash_is_refused_and_not_kept(tmp_path, fetched):
    address = "https://example.com/a.pt"
    found = download.download_address(address, tmp_path)
    assert download.download_address(address, tmp_path, sha256(found)) == found
    with pytest.raises(DitError, match=f"a.pt: expected SHA-256 {'0' * 64}, found {sha256(found)}"):
        download.download_address(address, tmp_path, "0" * 64)
    assert not found.exists()
