"""Files of a training's work folder, each with a checksum of its content.

A damaged file is never used: the training then starts afresh. It ends in the same weights as a
training that was never killed."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.core.atomic import remove_folders
from pipeline.core.errors import refuse
from pipeline.training import checkpoint

SAVE_SECONDS = "20"  # a killed training repeats at most so much


class DamagedFile(ValueError):
    """A file of the work folder is absent, or its content is not the one that was written."""


def save_seconds() -> float:
    """Seconds between two writes of the state, from SEQLINE_SAVE_SECONDS.

    UserError if the variable is not a number of seconds.
    """
    value = os.environ.get("SEQLINE_SAVE_SECONDS") or SAVE_SECONDS
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise refuse(
            "SEQLINE_SAVE_SECONDS",
            value,
            "a number of seconds, 0 for every step",
            "Fix or unset it.",
        )
    return seconds


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write named tensors and JSON-able metadata with their checksum, whole or not at all."""
    remove_folders(path, path.with_suffix(".partial"))
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    checkpoint.save(path, copies, {"facts": metadata, "sha256": checksum(copies, metadata)})


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the tensors and metadata that `save` wrote; DamagedFile if the checksum differs."""
    if not path.exists():
        raise DamagedFile(f"{path} is absent")
    try:
        tensors, content = checkpoint.load(path)
        intact = content["sha256"] == checksum(tensors, content["facts"])
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        # UserError is a ValueError; torch raises RuntimeError
        raise DamagedFile(f"{path} is damaged") from error
    if not intact:
        raise DamagedFile(f"{path} is damaged")
    return tensors, content["facts"]


def checksum(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> str:
    """SHA-256 of the tensors' names, types, shapes and bytes, and of the metadata."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    # in the order of the names: a file does not keep that of the mapping
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def remove(work: Path) -> None:
    """Remove every file that `save` wrote, and any folder of such a name."""
    for path in work.glob("*.safetensors"):
        remove_folders(path)
        path.unlink(missing_ok=True)
