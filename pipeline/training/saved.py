"""Files of a training's work folder, each with a checksum of all that it holds.

A damaged file is never used. The training then starts afresh, which makes the same weights as if it had not been broken off.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.landing import remove_folders
from pipeline.training import checkpoint


class Damaged(ValueError):
    """A file of the work folder that is absent, or does not hold what was written."""


def save(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write named tensors and JSON-able facts with their checksum, whole or not at all."""
    remove_folders(path, path.with_suffix(".partial"))
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    checkpoint.save(path, kept, {"facts": facts, "sha256": checksum(kept, facts)})


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load what `save` wrote; Damaged if that is not what the file holds."""
    if not path.exists():
        raise Damaged(f"{path} is absent")
    try:
        tensors, content = checkpoint.load(path)
        intact = content["sha256"] == checksum(tensors, content["facts"])
    except (UserError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Damaged(f"{path} is damaged") from error
    if not intact:
        raise Damaged(f"{path} is damaged")
    return tensors, content["facts"]


def checksum(tensors: dict[str, Tensor], facts: dict[str, Any]) -> str:
    """The SHA-256 of names, types, shapes and bytes of the tensors, and of the facts."""
    total = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def remove(work: Path) -> None:
    """Remove every file of `save`, and any folder that stands where one is to be written."""
    for path in work.glob("*.safetensors"):
        remove_folders(path)
        path.unlink(missing_ok=True)
