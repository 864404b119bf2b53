"""Features in parts; see also test_drawn.py and test_feature_parts.py."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dit.errors import DitError
from dit.evaluation.feature_set import PIXELS, FeatureSet
from dit.evaluation.parts import hash_images, part_paths, read_parts, write_parts
from dit.launcher import Share


def test_grey_images_have_the_hash_of_the_same_as_rgb():
    grey = torch.randint(256, (3, 1, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(hash_images(grey), hash_images(grey.expand(-1, 3, -1, -1)))
    rows = np.repeat(grey.numpy()[1].transpose(1, 2, 0), 3, axis=2)
    assert bytes(hash_images(grey)[1].tolist()) == hashlib.sha256(rows.tobytes()).digest()


def test_only_the_first_process_reads_and_all_rows_are_there(tmp_path):
    def make(starts):
        return ({"x": torch.full((2, 1), float(start)), PIXELS: torch.zeros(2, 32).byte()} for start in starts)

    for share in (Share(2, 3), Share(0, 3), Share(1, 3)):
        write_parts(tmp_path, 6, 2, make, title="x", share=share)
    assert list(part_paths(tmp_path, 6, 2)) == [0, 2, 4]
    assert read_parts(tmp_path, 6, 2, FeatureSet()).rows("x").flatten().tolist() == [0, 0, 2, 2, 4, 4]


def test_a_part_with_other_rows_is_named(tmp_path):
    save_file({"x": torch.zeros(3, 1)}, tmp_path / "00000000.safetensors")
    with pytest.raises(DitError, match=r"00000000\.safetensors: expected 2 rows, found 3; remove the file"):
        read_parts(tmp_path, 2, 2, FeatureSet()).rows("x")
