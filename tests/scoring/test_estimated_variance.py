"""Errors with estimated variances: SciPy's t distribution and integrals are the oracles."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from pipeline.scoring.estimated_variance import ErrorDistribution, VariancePart

DEGREES = st.sampled_from([1.0, 1.7, 2.0, 4.0, 9.5, 63.0, 591.0, 1e5])
VARIANCE = st.floats(1e-4, 1e4)
PROBABILITY = st.floats(1e-5, 0.99)


@given(DEGREES, VARIANCE, st.floats(0, 8))
def test_a_single_part_has_students_distribution(
    degrees: float, variance: float, error: float
) -> None:
    found = ErrorDistribution.of([VariancePart(variance, degrees)])
    expected = 2 * stats.t.sf(error, degrees)
    assert found.two_sided(error * math.sqrt(variance)) == pytest.approx(expected, rel=1e-3)
    assert found.two_sided(-error * math.sqrt(variance)) == pytest.approx(expected, rel=1e-3)


@given(DEGREES, VARIANCE, PROBABILITY)
def test_quantiles_of_a_single_part_are_students(
    degrees: float, variance: float, probability: float
) -> None:
    found = ErrorDistribution.of([VariancePart(variance, degrees)]).quantile(probability)
    expected = math.sqrt(variance) * stats.t.isf(probability / 2, degrees)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("degrees", [(2.0, 5.0), (3.0, 63.0), (1.0, 20.0), (4.0, 591.0)])
@pytest.mark.parametrize("ratio", [0.1, 1.0, 4.0])
def test_two_parts_have_the_distribution_of_behrens_and_fisher(
    degrees: tuple[float, float], ratio: float
) -> None:
    found = ErrorDistribution.of([VariancePart(1.0, degrees[0]), VariancePart(ratio, degrees[1])])
    first, second = (stats.t(value) for value in degrees)
    scale = math.sqrt(ratio)
    for error in (0.5, 2.0, 6.0):
        # P(|t_1 + scale * t_2| > error), by conditioning on t_2.
        tail, _ = integrate.quad(
            lambda x, e=error: second.pdf(x) * (first.sf(e - scale * x) + first.sf(e + scale * x)),
            -np.inf,
            np.inf,
        )
        assert found.two_sided(error) == pytest.approx(tail, rel=1e-4)


@given(st.lists(st.tuples(VARIANCE, DEGREES), min_size=1, max_size=2), PROBABILITY)
def test_quantiles_invert_probabilities(
    parts: list[tuple[float, float]], probability: float
) -> None:
    found = ErrorDistribution.of([VariancePart(*part) for part in parts])
    assert found.two_sided(found.quantile(probability)) == pytest.approx(probability, rel=1e-9)


def test_parts_without_variance_add_nothing() -> None:
    part = VariancePart(2.0, 3.0)
    alone = ErrorDistribution.of([part])
    joined = ErrorDistribution.of([VariancePart(0.0, 1.0), part])
    assert joined.two_sided(1.5) == alone.two_sided(1.5)

    nothing = ErrorDistribution.of([VariancePart(0.0, 1.0)])
    assert nothing.quantile(0.05) == 0
    assert (nothing.two_sided(0.0), nothing.two_sided(0.1)) == (1.0, 0.0)


@pytest.mark.parametrize("degrees", [4.0, 10.0, 100.0])
def test_a_detectable_difference_is_found_with_the_power_of_a_t_test(degrees: float) -> None:
    found = ErrorDistribution.of([VariancePart(1.0, degrees)]).detectable(0.05, 0.8)
    critical = stats.t.isf(0.025, degrees)
    assert stats.nct.sf(critical, degrees, found) == pytest.approx(0.8, abs=0.03)
