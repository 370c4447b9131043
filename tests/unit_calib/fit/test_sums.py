"""Sums as bytes: back bit by bit, small, and refused when they are not what they should be."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray
from toy_sizes import SizeToy, size_pairs, square_array

from arraycal.calib.errors import CannotCompute
from arraycal.calib.fit.curve import Knots
from arraycal.calib.fit.loop import Fit, FitOptions, fit, half_differences, solve_summary
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.sums.kept import FORMAT, KEPT, KEPT_OF_HALVES, STEERING, Sums, pack, unpack
from arraycal.calib.fit.sums.summary import Summary

if TYPE_CHECKING:
    from arraycal.calib.subarray import Subarray

OPTIONS = FitOptions("event", 20, 5, "tukey", "auto", 1.0, True, 12)
TABLES = {"rejected": pl.DataFrame({"rule": ["größer"], "rows": [7]})}


def energies() -> tuple[Fit, Subarray, FitOptions]:
    subarray = toy_subarray(6)
    toy = Toy([0.1, -0.1, 0.05, 0.0, -0.2, 0.15], [0.2] * 6, 1000, 4, trigger=0.1)
    showers = [prepare_pairs(toy_pairs(toy, 5), subarray)]
    return fit(lambda: showers, subarray, OPTIONS), subarray, OPTIONS


def sizes() -> tuple[Fit, Subarray, FitOptions]:
    subarray = square_array(9)
    toy = SizeToy([0.1, -0.1, 0.0, 0.0, 0.2, -0.2, 0.0, 0.05, -0.05], n_showers=600)
    showers = [prepare_pairs(size_pairs(toy, 5, reach_m=200.0), subarray)]
    options = replace(OPTIONS, robust="none", knots=Knots.spaced([(20.0, 200.0)], 5))
    return fit(lambda: showers, subarray, options), subarray, options


def sums_of(fitted: Fit, subarray: Subarray) -> Sums:
    return Sums(
        subarray,
        fitted.summary,
        fitted.halves,
        fitted.model,
        fitted.settled,
        TABLES,
        remarks=("über",),
    )


def leaves(value: object) -> list[np.ndarray]:
    if hasattr(value, "__dataclass_fields__"):
        return [leaf for part in vars(value).values() for leaf in leaves(part)]
    return [np.asarray(value)]


def assert_same_bits(one: object, two: object) -> None:
    for a, b in zip(leaves(one), leaves(two), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("make", [energies, sizes])
def test_sums_come_back_bit_by_bit(make) -> None:
    fitted, subarray, options = make()
    sums = sums_of(fitted, subarray)
    content = pack(sums)
    found = unpack(content)
    assert found.subarray == subarray
    assert found.settled == fitted.settled
    assert found.remarks == ("über",)
    for name in KEPT:
        assert_same_bits(getattr(found.summary, name), getattr(fitted.summary, name))
    for name in STEERING:
        assert not np.any(getattr(found.summary, name))
    assert_same_bits(found.model.now, fitted.model.now)
    assert_same_bits(found.model.selector, fitted.model.selector)
    assert_same_bits([found.model.threshold], [fitted.model.threshold])
    assert found.model.robust == fitted.model.robust
    assert found.tables["rejected"].equals(TABLES["rejected"])
    # The same sums, the same bytes: a night that is recorded again has not changed.
    assert pack(found) == content
    # All that a solver reads is there, for the halves too.
    assert_same_bits(solve_summary(found.summary, options), fitted.solution)
    halves = half_differences(found.summary, found.halves, options)
    assert len(halves) == 4
    for one, two in zip(halves, fitted.half_differences, strict=True):
        assert_same_bits(one, two)


def test_every_field_of_a_summary_is_kept_or_known_to_steer_only() -> None:
    assert sorted([*KEPT, *STEERING]) == sorted(item.name for item in fields(Summary))
    assert {name.partition("/")[0] for name in KEPT_OF_HALVES} < set(KEPT)


def test_sums_of_sixty_telescopes_are_small() -> None:
    subarray = toy_subarray(60)
    showers = [prepare_pairs(toy_pairs(Toy([0.0] * 60, [0.2] * 60, 3000, 10), 1), subarray)]
    fitted = fit(lambda: showers, subarray, replace(OPTIONS, threshold=None))
    # 60 x 60 numbers of 8 bytes, 9 times for all showers and 4 times for each of four halves,
    # are 700 kB; half of most is empty.
    assert len(pack(sums_of(fitted, subarray))) < 300_000


def changed(content: bytes, **about: object) -> bytes:
    with np.load(io.BytesIO(content[32:])) as archive:
        arrays = dict(archive.items())
    text = json.loads(arrays["about"].tobytes()) | about
    arrays["about"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return with_digest(buffer.getvalue())


def with_digest(archive: bytes) -> bytes:
    return hashlib.sha256(archive).digest() + archive


def test_another_format_is_refused() -> None:
    content = pack(sums_of(*energies()[:2]))
    with pytest.raises(
        CannotCompute, match=f"format 99, this version of arraycal reads .*{FORMAT}"
    ):
        unpack(changed(content, format=99))


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.array([{"format": FORMAT}], object))
    return with_digest(buffer.getvalue())


@pytest.mark.parametrize("damage", ["pickled", "cut", "flipped", "empty", "lacking"])
def test_damaged_bytes_are_refused(damage: str) -> None:
    content = pack(sums_of(*energies()[:2]))
    middle = len(content) // 2
    damaged = {
        "pickled": pickled(),
        "cut": content[:middle],
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "empty": b"",
        "lacking": changed(content, n_halves=5),
    }
    with pytest.raises(CannotCompute, match="the stored sums are damaged"):
        unpack(damaged[damage])
