"""Every family keeps the contracts of its task."""

import pytest
from family_cases import CASES
from long_cases import mostly_long

from pipeline.conformance import Check, common, run_check
from pipeline.core import config

# One of each task learns its rule in `make test`, all of them in `make test-long`.
QUICK = (
    *("additive attention", "transformer language model", "cnn classifier", "bidirectional gru"),
    *(
        "word2vec",
        "perceptron",
        "decomposable attention",
        "cnn of pictures",
        "n-grams",
        "IBM model 1",
    ),
)
CHECKS = [
    pytest.param(name, check, id=f"{name}: {check.__name__}")
    for name, case in CASES.items()
    for check in common.checks(case)
    if check is not common.learning
]


def test_each_family_has_a_case() -> None:
    families = {case.family for case in CASES.values()}
    assert families == set(config.module_names("pipeline.models"))


@pytest.mark.parametrize(("name", "check"), CHECKS)
def test_family_keeps_its_contract(name: str, check: Check) -> None:
    run_check(check, CASES[name])


@pytest.mark.parametrize("name", mostly_long(CASES, QUICK.__contains__, str))
def test_family_learns_a_rule(name: str) -> None:
    run_check(common.learning, CASES[name])
