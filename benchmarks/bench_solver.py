"""The solver: SUMMARY to coefficients with full covariance, and a pass over the pairs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from material import cheapest
from rich.console import Console
from rich.table import Table
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit import network
from arraycal.calib.fit.model import Model
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.sums.summarise import summarise
from arraycal.calib.fit.sums.summary import Moments, Summary

if TYPE_CHECKING:
    from collections.abc import Callable


def summary_of_graph(n: int, n_pairs: int) -> Summary:
    """Sums of a random connected graph: every telescope sees its next neighbours."""
    subarray = toy_subarray(4)
    small = summarise(
        prepare_pairs(toy_pairs(Toy([0.0] * 4, [0.2] * 4, 50, 3), 1), subarray),
        Model.initial(subarray, variance=0.04, margin=0.0),
    )
    rng = np.random.default_rng(1)
    first, second = np.triu_indices(n, 1)
    nearest = np.argsort(second - first + rng.random(len(first)), kind="stable")[:n_pairs]
    first, second = first[nearest], second[nearest]
    weight, weighted, mean = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    n_common, m2 = np.zeros((n, n)), np.zeros((n, n))
    truth = rng.normal(0, 0.1, n)
    weight[first, second] = rng.uniform(100, 1000, n_pairs)
    weighted[first, second] = weight[first, second] * (truth[first] - truth[second])
    mean[first, second] = np.tanh((truth[first] - truth[second]) / 2)
    n_common[first, second] = 200
    m2[first, second] = 200 * 0.14**2
    meat = network.laplacian(weight)
    return replace(
        small,
        weight=weight,
        weighted=weighted,
        curvature=weight,
        meat=meat,
        n_events=np.full(n, 1000.0),
        asymmetry=Moments(n_common, mean, m2),
        log_ratio=Moments(n_common, 2 * mean, 4 * m2),
    )


def solve(solver: Callable[..., network.Solution], summary: Summary) -> network.Solution:
    """Find the components and solve them, with covariance."""
    component = network.components(
        summary.log_ratio.n, summary.n_events, min_common=20, min_events=50
    )
    return solver(summary, component)


def main() -> None:
    """Print the tables."""
    table = Table(title="components + solve + covariance")
    for name in ("telescopes", "pairs", "event: CPU [ms]", "pair: CPU [ms]"):
        table.add_column(name, justify="right")
    for n, n_pairs in ((13, 32), (99, 1200), (1000, 12_000)):
        summary = summary_of_graph(n, n_pairs)
        event = cheapest(partial(solve, network.solve_events, summary)).cpu
        pair = cheapest(partial(solve, network.solve_pairs, summary)).cpu
        table.add_row(str(n), str(n_pairs), f"{1e3 * event:.1f}", f"{1e3 * pair:.1f}")
    Console().print(table)
    subarray = toy_subarray(51)
    pairs = toy_pairs(Toy([0.0] * 51, [0.2] * 51, 100_000, 5), 1)
    showers = prepare_pairs(pairs, subarray)
    model = Model.initial(subarray, variance=0.04, margin=0.0)
    sums = cheapest(lambda: summarise(showers, model)).cpu
    arrays = cheapest(lambda: prepare_pairs(pairs, subarray)).cpu
    million = 1e6 / len(pairs)
    Console().print(
        f"per 1e6 pair rows: to arrays {arrays * million:.2f} s, one pass {sums * million:.2f} s"
    )


if __name__ == "__main__":
    main()
