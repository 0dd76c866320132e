"""Predict every split but train, and the corpus's samples, with a trained run.

What is written depends on the task: see `pipeline/predictions/<task>.py`.
"""

import argparse
from pathlib import Path

from pipeline.core import config, params, stage_arguments
from pipeline.core.atomic import atomic_dir
from pipeline.core.errors import exit_with
from pipeline.predictions import PredictionRequest
from pipeline.training import devices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--params", "--model", "--encoded", "--vocab", "--out"):
        parser.add_argument(option, type=Path, required=True)
    a = stage_arguments.parse(parser, "runs")
    run, where = params.run(a.params, a.run), f"runs.{a.run}"
    task = config.named_module("pipeline.predictions", run.task, f"{where}.task")
    device = devices.choose(params.compute(a.params).device, "compute.device")
    samples = params.corpus(a.params, run.corpus).samples
    with atomic_dir(a.out) as out:
        task.predict(
            PredictionRequest(run, where, a.model, a.encoded, a.vocab, samples, device), out
        )


if __name__ == "__main__":
    exit_with(main)
