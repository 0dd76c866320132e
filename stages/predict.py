"""Predict every split but train, and the corpus's samples, with a trained run. With
`evaluation.test: false` valid is the only split.

The outputs depend on the task: see `pipeline/predictions/<task>.py`. `model.json` has the sha256 of
the weights.
"""

import argparse
import json
from pathlib import Path

from pipeline.core import config, params, stage_arguments
from pipeline.core.atomic import atomic_dir
from pipeline.core.digest import file_digest
from pipeline.core.errors import exit_with
from pipeline.predictions import PredictionRequest
from pipeline.training import devices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--params", "--model", "--encoded", "--vocab", "--out"):
        parser.add_argument(option, type=Path, required=True)
    arguments = stage_arguments.parse(parser, "runs")

    run = params.run(arguments.params, arguments.run)
    task = config.named_module("pipeline.predictions", run.task, f"runs.{arguments.run}.task")
    device = devices.choose(params.compute(arguments.params).device, "compute.device")
    samples = params.corpus(arguments.params, run.corpus).samples
    request = PredictionRequest(
        run,
        f"settings.{run.setting}",
        arguments.model,
        arguments.encoded,
        arguments.vocab,
        samples,
        device,
        params.evaluation(arguments.params).test,
    )
    with atomic_dir(arguments.out) as out:
        task.predict(request, out)
        facts = {"weights": file_digest(arguments.model / "model.safetensors", "sha256")}
        (out / "model.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    exit_with(main)
