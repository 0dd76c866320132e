"""Weights and training state on disk: safetensors only, one file renamed into place, nothing
pickled."""

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.core import config
from pipeline.core.atomic import replace_file
from pipeline.core.errors import read_json, refuse

_TODO = "Run `dvc repro`, or `dvc pull`."


def save(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write named tensors and JSON-able facts as one file, whole or not at all."""
    beside = path.with_suffix(".partial")
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(kept, beside, {"facts": json.dumps(facts, sort_keys=True)})
    except SafetensorError as error:
        beside.unlink(missing_ok=True)
        refused = re.search(r"os error (\d+)", str(error))
        if refused is None:
            raise
        raise OSError(int(refused[1]), os.strerror(int(refused[1])), str(path)) from None
    replace_file(beside, path)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load what `save` wrote; UserError if the file is not a checkpoint."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise refuse(str(path), str(error), "weights in safetensors form", _TODO) from None


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights by name, each shared one once."""
    seen: set[int] = set()
    named = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            named[name] = tensor
            seen.add(tensor.data_ptr())
    return named


def copy_weights(model: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Copy weights into the model; UserError if a name or a shape does not fit its config."""
    own = unique_tensors(model)
    for name in sorted(own.keys() | tensors.keys()):
        got = tuple(tensors[name].shape) if name in tensors else "nothing"
        want = tuple(own[name].shape) if name in own else "nothing"
        if got != want:
            raise refuse(
                f"{where}: {name}",
                got,
                f"{want}, as config.json and this version's code have it",
                "Run `dvc repro`.",
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def write_model(folder: Path, model: nn.Module, facts: dict[str, Any]) -> None:
    """`model.safetensors` and `config.json` (facts of the run, sizes among them)."""
    save(folder / "model.safetensors", unique_tensors(model), {})
    (folder / "config.json").write_text(
        json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )


def read_config(folder: Path, *keys: str) -> dict[str, Any]:
    """`config.json` of a trained model; UserError if there is none, or if it lacks one of the
    dotted `keys`."""
    path = folder / "config.json"
    facts = read_json(path, "a trained model", _TODO)
    for key in keys:
        held: Any = facts
        for name in key.split("."):
            if not isinstance(held, dict) or name not in held:
                raise refuse(str(path), f"no {key!r}", "what the train stage writes", _TODO)
            held = held[name]
    return facts


def load_model(folder: Path, device: torch.device) -> nn.Module:
    """The trained model of a run, ready to predict."""
    facts = read_config(folder, "run.family", "run.model", "sizes")
    sizes = config.load(Sizes, facts["sizes"], f"{folder / 'config.json'}: sizes")
    model = build(facts["run"]["family"], facts["run"]["model"], sizes, "model")
    tensors, _ = load(folder / "model.safetensors")
    copy_weights(model, tensors, str(folder / "model.safetensors"))
    return model.to(device).eval()


def build(family: str, block: dict[str, Any], sizes: Sizes, where: str) -> nn.Module:
    """A fresh model of the family from its `model:` block, called `where` in messages."""
    module = config.named_module("pipeline.models", family, f"{where.removesuffix('model')}family")
    model: nn.Module = module.Model(config.load(module.Config, block, where), sizes)
    return model
