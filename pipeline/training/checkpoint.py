"""Weights and training state on disk: safetensors files, renamed into place; nothing is pickled."""

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.contracts import Fitted, Sizes, Spelled
from pipeline.core import config
from pipeline.core.atomic import replace_file
from pipeline.core.errors import read_json, refuse

_TODO = "Run `dvc repro`, or `dvc pull`."


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write named tensors and JSON-able metadata as one file, whole or not at all."""
    partial = path.with_suffix(".partial")
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(copies, partial, {"facts": json.dumps(metadata, sort_keys=True)})
    except SafetensorError as error:
        partial.unlink(missing_ok=True)
        # safetensors wraps errors of the system, such as a full disk: raise the OSError itself
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
    replace_file(partial, path)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the tensors and metadata that `save` wrote; UserError if the file is not a
    checkpoint."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("facts", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return tensors, metadata
    except (SafetensorError, OSError) as error:
        raise refuse(str(path), str(error), "weights in safetensors form", _TODO) from None


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights by name; tied weights only once, under their first name."""
    # Tied weights share their memory; safetensors refuses tensors that do.
    pointers: set[int] = set()
    tensors = {}
    for name, tensor in model.state_dict().items():
        # Empty tensors have no memory: all have the pointer 0.
        if tensor.data_ptr() not in pointers or not tensor.numel():
            tensors[name] = tensor
            pointers.add(tensor.data_ptr())
    return tensors


def parameter_count(model: nn.Module) -> int:
    """Number of the model's parameters; of a model that is fitted, with the numbers in its buffers
    except those of int64, which are ids."""
    tensors: list[Tensor] = list(model.parameters())
    if isinstance(model, Fitted):
        tensors += [buffer for buffer in model.buffers() if buffer.dtype != torch.int64]
    return sum(tensor.numel() for tensor in tensors)


def resize_buffers(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give the empty buffers of a model that has read no data the sizes of the file's tensors.

    A tensor of another type or number of dimensions is left out, and refused by `copy_weights`."""
    for name, buffer in model.named_buffers():
        tensor = tensors.get(name)
        if buffer.numel() or tensor is None:
            continue
        if tensor.dtype == buffer.dtype and tensor.ndim == buffer.ndim:
            module, _, key = name.rpartition(".")
            model.get_submodule(module).register_buffer(key, torch.empty_like(tensor))


def copy_weights(model: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Copy weights into the model; UserError if a name or a shape does not fit its config."""
    # Compare all names and shapes before anything is copied.
    weights = unique_tensors(model)
    for name in sorted(weights.keys() | tensors.keys()):
        got = tuple(tensors[name].shape) if name in tensors else "nothing"
        expected = tuple(weights[name].shape) if name in weights else "nothing"
        if got != expected:
            raise refuse(
                f"{where}: {name}",
                got,
                f"{expected}, as config.json and this version's code have it",
                "Run `dvc repro`.",
            )

    with torch.no_grad():
        for name, tensor in tensors.items():
            weights[name].copy_(tensor)


def write_model(folder: Path, model: nn.Module, metadata: dict[str, Any]) -> None:
    """Write `model.safetensors`, and the run's `metadata` (sizes among them) as `config.json`."""
    save(folder / "model.safetensors", unique_tensors(model), {})
    text = json.dumps(metadata, indent=2, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def read_config(folder: Path, *keys: str) -> dict[str, Any]:
    """Read `config.json` of a trained model.

    UserError if there is none, or if it lacks one of the dotted `keys`.
    """
    path = folder / "config.json"
    content = read_json(path, "a trained model", _TODO)
    for key in keys:
        value: Any = content
        for name in key.split("."):
            if not isinstance(value, dict) or name not in value:
                raise refuse(str(path), f"no {key!r}", "what the train stage writes", _TODO)
            value = value[name]
    return content


def load_model(folder: Path, device: torch.device) -> nn.Module:
    """Load the trained model of a run, in evaluation mode."""
    content = read_config(folder, "run.family", "run.model", "sizes")
    sizes = config.load(Sizes, content["sizes"], f"{folder / 'config.json'}: sizes")
    # Models that were trained by earlier versions have no components.
    blocks = content["run"] | {"component": content.get("component")}
    model = _build_with_component(blocks, sizes)

    tensors, _ = load(folder / "model.safetensors")
    if isinstance(model, Fitted | Spelled):
        resize_buffers(model, tensors)
    copy_weights(model, tensors, str(folder / "model.safetensors"))
    return model.to(device).eval()


def build(
    family: str,
    block: dict[str, Any],
    sizes: Sizes,
    where: str,
    component: nn.Module | None = None,
) -> nn.Module:
    """Build a model of the family from its `model:` block, called `where` in messages.

    `component`: the trained model of another run, for families that contain one.
    """
    module = config.named_module("pipeline.models", family, f"{where.removesuffix('model')}family")
    settings = config.load(module.Config, block, where)
    components = () if component is None else (component,)
    model: nn.Module = module.Model(settings, sizes, *components)
    return model


def component_blocks(folder: Path) -> dict[str, Any]:
    """What `config.json` says of the model in `folder` as the component of another: its family, its
    `model:` block, and its own component."""
    content = read_config(folder, "run.family", "run.model")
    run = content["run"]
    return {
        "family": run["family"],
        "model": run["model"],
        "component": content.get("component"),
    }


def _build_with_component(blocks: dict[str, Any], sizes: Sizes) -> nn.Module:
    """Build a model and the components inside it."""
    inner = blocks["component"]
    component = None if inner is None else _build_with_component(inner, sizes)
    return build(blocks["family"], blocks["model"], sizes, "model", component)
