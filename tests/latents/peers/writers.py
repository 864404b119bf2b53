"""Latents as other code bases write them."""

import json
import zipfile
from io import BytesIO

import numpy as np
import torch
from safetensors.torch import save_file


def write_fast_dit(folder, z, labels, prefix="imagenet256_"):
    """z (N, C, h, w) before it is scaled, labels (N,)."""
    for kind in ("features", "labels"):
        (folder / f"{prefix}{kind}").mkdir(parents=True)
    for i, (latent, label) in enumerate(zip(z, labels, strict=True)):
        np.save(folder / f"{prefix}features" / f"{i}.npy", latent[None].numpy() * np.float32(0.18215))
        np.save(folder / f"{prefix}labels" / f"{i}.npy", np.array([int(label)]))
    return folder


def write_lightningdit(folder, z, labels, flipped=None, shard=4, statistics=None):
    """z and flipped (N, C, h, w), labels (N,), in shards; statistics (mean, std) of C each."""
    folder.mkdir(parents=True)
    for number, start in enumerate(range(0, len(z), shard)):
        rows = slice(start, start + shard)
        tensors = {"latents": z[rows].contiguous(), "labels": labels[rows].contiguous()}
        if flipped is not None:
            tensors["latents_flip"] = flipped[rows].contiguous()
        save_file(tensors, folder / f"latents_rank00_shard{number:03}.safetensors")
    if statistics is not None:
        mean, std = (values.view(1, -1, 1, 1) for values in statistics)
        torch.save({"mean": mean, "std": std}, folder / "latents_stats.pt")
    return folder


def edm_files(first, second, labels, stem="img-mean-std-"):
    """Return {name: content} with both halves (N, C, h, w) of each image's array; labels (N,) or None."""
    files, rows = {}, []
    for i in range(len(first)):
        name = f"{i // 3:05}/{stem}{i:08}.npy"
        file = BytesIO()
        np.save(file, torch.cat([first[i], second[i]]).numpy())
        files[name] = file.getvalue()
        rows.append([name, None if labels is None else int(labels[i])])
    files["dataset.json"] = json.dumps({"labels": None if labels is None else rows}).encode()
    return files


def write_folder(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
