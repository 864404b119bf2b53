"""Pictures in memory."""

from dit.demo.pictures import Pictures


def test_files_come_back_by_addresses_that_differ():
    pictures = Pictures()
    addresses = [pictures.add(b"same") for _ in range(3)]
    assert len(set(addresses)) == 3
    assert {pictures.get(address) for address in addresses} == {b"same"}
    assert pictures.get("/pictures/../etc/passwd") is None


def test_the_oldest_go_and_the_newest_always_stays():
    pictures = Pictures(max_bytes=10)
    first, second, third = (pictures.add(bytes(4)) for _ in range(3))
    assert [pictures.get(address) is None for address in (first, second, third)] == [True, False, False]
    large = pictures.add(bytes(100))
    assert pictures.get(third) is None
    assert pictures.get(large) == bytes(100)
