"""Mixed tables: numbers and back, with every type, cell and order as it was."""

import datetime as dt
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal, assert_series_equal
from polars.testing import assert_frame_equal as assert_polars_equal

from skvae.exceptions import (
    DataError,
    ModelFileError,
    ParameterError,
    SkvaeWarning,
    UnseenCategoryWarning,
)
from skvae.schema import KINDS, Column, Schema

NAN = float("nan")
LARGEST = float(np.finfo(np.float32).max)
FEW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def only(schema):
    (column,) = schema.columns
    return column


def codes_of(schema, X):
    return schema.encode(X)[:, 0].tolist()


def filled(X, *values, **options):
    """Fill a table of one column from the numbers for its cells."""
    schema = Schema.infer(X, **options)
    return schema.fill(X, np.array(values, dtype=float)[:, None])


# One case for each type of pandas: the column, what it encodes to, and what stands in the hole
# (cell 1) when it is filled with the number given.
PANDAS = {
    "int64": (pd.Series([-4, 3, 9]), [-4, 3, 9], None, None),
    "Int64": (pd.Series([-4, None, 9], dtype="Int64"), [-4, NAN, 9], 2.6, 3),
    "UInt8": (pd.Series([4, None, 9], dtype="UInt8"), [4, NAN, 9], 300.0, 255),
    "float64": (pd.Series([-0.5, None, 2]), [-0.5, NAN, 2], 0.1, 0.1),
    "float32": (
        pd.Series([-0.5, None, 2], dtype="float32"),
        [-0.5, NAN, 2],
        1e300,
        LARGEST,
    ),
    "Float64": (pd.Series([-0.5, None, 2], dtype="Float64"), [-0.5, NAN, 2], 0.1, 0.1),
    "bool": (pd.Series([True, False, True]), [1, 0, 1], None, None),
    "boolean": (pd.Series([True, None, False], dtype="boolean"), [1, NAN, 0], 1, True),
    "str": (pd.Series(["b", None, "a", "c"], dtype="str"), [1, NAN, 0, 2], 2, "c"),
    "string": (pd.Series(["b", None, "a", "c"], dtype="string"), [1, NAN, 0, 2], 2, "c"),
    "string[python]": (pd.Series(["b", pd.NA, "a"], dtype="string[python]"), [1, NAN, 0], 0, "a"),
    "object str": (pd.Series(["b", None, "a", "c"], dtype=object), [1, NAN, 0, 2], 2, "c"),
    "object bool": (pd.Series([True, None, False], dtype=object), [1, NAN, 0], 0, False),
    "object int": (pd.Series([7, None, -8, 9], dtype=object), [7, NAN, -8, 9], 2.6, 3),
    "object number": (pd.Series([7, None, -8.5], dtype=object), [7, NAN, -8.5], 2.6, 2.6),
    "category": (
        pd.Series(pd.Categorical(["b", None, "a"], categories=["b", "z", "a"])),
        [0, NAN, 2],
        1,
        "z",
    ),
    "ordered": (
        pd.Series(pd.Categorical(["b", None, "a"], categories=["b", "z", "a"], ordered=True)),
        [0, NAN, 2],
        2,
        "a",
    ),
    "category int": (pd.Series(pd.Categorical([5, None, 3, 4])), [2, NAN, 0, 1], 1, 4),
    "datetime64[ns]": (
        pd.Series(["1970-01-02", None, "1969-12-31 12:00"], dtype="datetime64[ns]"),
        [1, NAN, -0.5],
        1.5 + 1e-9 / 86400,
        pd.Timestamp("1970-01-02 12:00:00.000000001"),
    ),
    "datetime64[s]": (
        pd.Series(["1970-01-02", None, "1969-12-31 12:00"], dtype="datetime64[s]"),
        [1, NAN, -0.5],
        1.5 + 0.6 / 86400,
        pd.Timestamp("1970-01-02 12:00:01"),
    ),
    "datetime64[us, Europe/Berlin]": (
        pd.Series(["1970-01-02", None, "1970-01-03"], dtype="datetime64[us, Europe/Berlin]"),
        [23 / 24, NAN, 47 / 24],
        1.5,
        pd.Timestamp("1970-01-02 13:00", tz="Europe/Berlin"),
    ),
    "timedelta64[ms]": (
        pd.Series(pd.array([1500, None, -250, 7], dtype="Int64"), dtype="timedelta64[ms]"),
        [1.5, NAN, -0.25, 0.007],
        2.0006,
        pd.Timedelta(2001, "ms"),
    ),
    "object date": (
        pd.Series([dt.date(1970, 1, 3), None, dt.date(1969, 12, 31)], dtype=object),
        [2, NAN, -1],
        18262.4,
        dt.date(2020, 1, 1),
    ),
    "object datetime": (
        pd.Series([dt.datetime(1970, 1, 3), None, dt.datetime(1970, 1, 2)], dtype=object),
        [2, NAN, 1],
        1.4,
        dt.datetime(1970, 1, 2),  # days stay days
    ),
    "int64[pyarrow]": (pd.Series([-4, None, 9], dtype="int64[pyarrow]"), [-4, NAN, 9], 2.6, 3),
    "float[pyarrow]": (pd.Series([-4, None, 9], dtype="float[pyarrow]"), [-4, NAN, 9], 2.5, 2.5),
    "bool[pyarrow]": (
        pd.Series([True, None, False], dtype="bool[pyarrow]"),
        [1, NAN, 0],
        1,
        True,
    ),
}


@pytest.mark.parametrize("case", PANDAS)
def test_a_pandas_column_becomes_numbers_and_only_its_hole_is_filled(case):
    series, numbers, number, value = PANDAS[case]
    frame = pd.DataFrame({"x": series})
    before = frame.copy(deep=True)
    schema = Schema.infer(frame)
    assert schema.container == "pandas"
    assert np.allclose(schema.encode(frame)[:, 0], numbers, rtol=0, atol=1e-15, equal_nan=True)
    assert schema.encode(frame).dtype == np.float64
    assert schema.missing(frame)[:, 0].tolist() == series.isna().tolist()
    out = schema.fill(frame, np.full((len(frame), 1), 0.0 if number is None else number))
    assert_frame_equal(frame, before)
    expected = series.tolist()
    if number is not None:
        expected[1] = value
    assert out["x"].dtype == series.dtype
    assert out["x"].tolist() == expected
    assert [type(v) for v in out["x"].tolist()] == [type(v) for v in expected]
    # A table without holes is there again from its numbers, types included.
    whole = frame.drop(index=1).reset_index(drop=True)
    assert_frame_equal(schema.decode(schema.encode(whole)), whole)


POLARS = {
    "Int32": (pl.Series([1, None, -3], dtype=pl.Int32), [1, NAN, -3], 2.6, 3),
    "Float32": (pl.Series([1.5, None, -3], dtype=pl.Float32), [1.5, NAN, -3], 0.25, 0.25),
    "Boolean": (pl.Series([True, None, False]), [1, NAN, 0], 1, True),
    "String": (pl.Series(["b", None, "a", "c"]), [1, NAN, 0, 2], 2, "c"),
    "Enum": (pl.Series(["b", None, "a"], dtype=pl.Enum(["b", "z", "a"])), [0, NAN, 2], 1, "z"),
    "Categorical": (
        pl.Series(["b", None, "a", "c"], dtype=pl.Categorical),
        [1, NAN, 0, 2],
        2,
        "c",
    ),
    "Date": (
        pl.Series([dt.date(1970, 1, 3), None, dt.date(1969, 12, 31)]),
        [2, NAN, -1],
        18262.4,
        dt.date(2020, 1, 1),
    ),
    "Datetime[us]": (
        pl.Series([dt.datetime(1970, 1, 3), None, dt.datetime(1970, 1, 2)]),
        [2, NAN, 1],
        1.4,
        dt.datetime(1970, 1, 2),  # days stay days
    ),
    "Datetime[ms, UTC]": (
        pl.Series([0, None, 86_400_000]).cast(pl.Datetime("ms", "UTC")),
        [0, NAN, 1],
        1.6,
        dt.datetime(1970, 1, 3, tzinfo=dt.UTC),
    ),
    "Duration[us]": (
        pl.Series([1_500_000, None, -250, 0]).cast(pl.Duration("us")),
        [1.5, NAN, -0.00025, 0],
        2.0000006,
        dt.timedelta(seconds=2, microseconds=1),
    ),
}


@pytest.mark.parametrize("case", POLARS)
def test_a_polars_column_becomes_numbers_and_only_its_hole_is_filled(case):
    series, numbers, number, value = POLARS[case]
    frame = series.alias("x").to_frame()
    schema = Schema.infer(frame)
    assert (schema.container, only(schema).dtype) == ("polars", case)
    assert np.allclose(schema.encode(frame)[:, 0], numbers, rtol=0, atol=1e-15, equal_nan=True)
    assert schema.missing(frame)[:, 0].tolist() == series.is_null().to_list()
    out = schema.fill(frame, np.full((len(frame), 1), float(number)))
    expected = series.to_list()
    expected[1] = value
    assert out["x"].dtype == series.dtype
    assert out["x"].to_list() == expected
    whole = frame.drop_nulls()
    assert_polars_equal(schema.decode(schema.encode(whole)), whole)


def test_polars_decimals_and_nan_cells():
    frame = pl.DataFrame(
        {"d": pl.Series(["1.25", None, "-3.50"]).cast(pl.Decimal(10, 2)), "f": [1.5, NAN, -2.0]}
    )
    schema = Schema.infer(frame)
    assert only(Schema.infer(frame[["d"]])).dtype == "Decimal[10, 2]"
    assert np.array_equal(
        schema.encode(frame), [[1.25, 1.5], [NAN, NAN], [-3.5, -2]], equal_nan=True
    )
    out = schema.fill(frame, np.full((3, 2), 2.5))
    assert [str(v) for v in out["d"]] == ["1.25", "2.50", "-3.50"]
    assert out["f"].to_list() == [1.5, 2.5, -2.0]
    assert schema.decode(np.full((1, 2), 2.5)).schema == frame.schema


ARRAYS = {
    "float64": (np.array([[-0.5, 1], [NAN, 2.5]]), [[-0.5, 1], [NAN, 2.5]], 7.1),
    "float32": (np.array([[-0.5, 1], [NAN, 2.5]], "f4"), [[-0.5, 1], [NAN, 2.5]], 7.25),
    "object": (
        np.array([[-0.5, "a"], [None, "b"], [1.5, "c"]], object),
        [[-0.5, 0], [NAN, 1], [1.5, 2]],
        7.1,
    ),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_an_array_becomes_numbers_and_only_its_hole_is_filled(case):
    X, numbers, number = ARRAYS[case]
    if case != "object":
        X = np.vstack([X, [[1, -3]]]).astype(X.dtype)
        numbers = [*numbers, [1, -3]]
    before = X.copy()
    schema = Schema.infer(X)
    assert schema.container == "numpy"
    assert [c.name for c in schema.columns] == [0, 1]
    assert np.array_equal(schema.encode(X), numbers, equal_nan=True)
    values = schema.encode(X)
    values[1, 0] = number
    out = schema.fill(X, values)
    before[1, 0] = number
    assert out.dtype == before.dtype
    assert out.tolist() == before.tolist()
    assert out is not X
    decoded = schema.decode(values)
    assert decoded.dtype == X.dtype
    assert decoded.tolist() == before.tolist()


def test_arrays_of_integers_strings_and_dates():
    ints = np.array([[3, -999], [4, 7], [-5, 8]], dtype=np.int16)
    schema = Schema.infer(ints, missing_values=-999)
    assert np.array_equal(schema.encode(ints), [[3, NAN], [4, 7], [-5, 8]], equal_nan=True)
    out = schema.fill(ints, np.full((3, 2), 40000.0))
    assert out.dtype == np.int16
    assert out.tolist() == [[3, 32767], [4, 7], [-5, 8]]
    text = np.array([["a", "?"], ["b", "u"], ["c", "v"]])
    schema = Schema.infer(text, missing_values="?")
    assert np.array_equal(schema.encode(text), [[0, NAN], [1, 0], [2, 1]], equal_nan=True)
    assert schema.fill(text, np.ones((3, 2))).tolist() == [["a", "v"], ["b", "u"], ["c", "v"]]
    schema = Schema.infer(np.array([["a"], ["longest"], ["c"]]))
    assert schema.decode(np.array([[2.0], [0.0]])).tolist() == [["longest"], ["a"]]
    known = Schema.infer(np.array([["a"], ["longest"], ["c"]]), missing_values="?")
    narrow = known.fill(np.array([["?"], ["a"]]), np.full((2, 1), 2.0))
    assert narrow.tolist() == [["longest"], ["a"]]  # wider than the array that came
    days = np.array([["1970-01-03"], ["NaT"], ["1969-12-31"]], dtype="datetime64[D]")
    schema = Schema.infer(days)
    assert codes_of(schema, days[[0, 2]]) == [2, -1]
    assert schema.fill(days, np.full((3, 1), 9.0))[1, 0] == np.datetime64("1970-01-10")
    hours = np.array([[3], [-1], [5]], dtype="timedelta64[h]")
    schema = Schema.infer(hours)
    assert codes_of(schema, hours) == [10800, -3600, 18000]
    assert schema.decode(np.array([[7300.0]])).tolist() == np.array([[2]], "m8[h]").tolist()
    bits = np.array([[True], [False]])
    assert codes_of(Schema.infer(bits), bits) == [1, 0]
    assert Schema.infer(bits).decode(np.array([[1.0]])).dtype == bool


@pytest.mark.parametrize(
    "days",
    [0.0, 0.5, 1 / 86400, 20000.123456, -719162.0, -0.000001, 2932896.0],
)
def test_a_day_is_the_same_instant_in_every_unit(days):
    moment = dt.datetime(1970, 1, 1) + dt.timedelta(days=days)
    for unit, width in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        first = np.array(["1970-01-01", "1980-01-01T12", "1990-01-01"], f"datetime64[{unit}]")
        schema = Schema.infer(first[:, None])
        (back,) = schema.decode(np.array([[days]])).astype("datetime64[us]").tolist()[0]
        assert abs((back - moment).total_seconds()) <= width / 2 + 2e-6
        again = schema.encode(schema.decode(np.array([[days]])))
        assert again[0, 0] == pytest.approx(days, abs=width / 86400 / 2 * (1 + 1e-4))


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [("D", 86400), ("h", 3600), ("m", 60), ("s", 1), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)],
)
def test_every_unit_of_time_has_its_length(unit, seconds):
    ticks = np.array([[3], [-1], [172_800_000_000]])
    moments, lengths = ticks.astype(f"datetime64[{unit}]"), ticks.astype(f"timedelta64[{unit}]")
    dates, durations = Schema.infer(moments[:2]), Schema.infer(lengths[:2])
    assert dates.encode(moments) == pytest.approx(ticks * seconds / 86400, rel=1e-15)
    assert durations.encode(lengths) == pytest.approx(ticks * seconds, rel=1e-15)
    back = dates.decode(ticks[:2] * seconds / 86400)
    assert back.dtype == moments.dtype
    assert back.astype(int).tolist() == [[3], [-1]]
    assert durations.decode(ticks * seconds + 0.4 * seconds).tolist() == lengths.tolist()


def test_nanoseconds_are_not_rounded_to_what_a_float_of_all_digits_would_hold():
    ticks = np.array([[1_700_000_000_000_000_001], [0], [1]], dtype="datetime64[ns]")
    schema = Schema.infer(ticks)
    days = schema.encode(ticks)[:, 0]
    assert days[0] == 19675 + 80000.000000001 / 86400
    assert days[2] == 1 / 86_400_000_000_000
    far = schema.decode(np.array([[1e9], [-1e9]])).astype("datetime64[D]").astype(int)
    assert far[:, 0].tolist() == [106750, -106750]
    coarse = Schema.infer(ticks.astype("datetime64[s]")[[0, 1]])
    edge = coarse.decode(np.array([[1e9], [-1e9]])).astype("datetime64[D]").tolist()
    assert edge == [[dt.date(9999, 12, 31)], [dt.date(1, 1, 1)]]
    long = Schema.infer(np.array([[1], [3]], dtype="timedelta64[ns]"))
    assert long.decode(np.array([[1e300]])).astype(int).item() // 10**9 == 9223372035


def mixed():
    """Return a frame with awkward index, every kind of hole and two that are not modelled."""
    return pd.DataFrame(
        {
            "f": [-0.0, NAN, 3.5, -1e-310],
            "s": ["u", "v", None, "w"],
            "k": ["only", None, "only", None],
            "e": [None, None, None, None],
            "t": ["p", None, "q", "r"],
            "i": pd.array([1, None, 3, -5], dtype="Int64"),
        },
        index=pd.MultiIndex.from_arrays([[1, 1, 0, 1], list("xxyx")], names=["a", "b"]),
    )


def test_a_mixed_frame_keeps_index_order_and_whatever_is_not_modelled():
    frame = mixed()
    frame.attrs["origin"] = "here"
    schema = Schema.infer(frame, {"t": "text"})
    kinds = [c.kind for c in schema.columns]
    assert kinds == ["real", "categorical", "constant", "constant", "text", "real"]
    assert [c.levels for c in schema.columns[2:4]] == [("only",), ()]
    assert schema.modelled == (0, 1, 5)
    assert schema.missing(frame).tolist() == frame.isna().to_numpy().tolist()
    values = np.array([[9.0, 2.0, 8.0]]).repeat(4, axis=0)
    out = schema.fill(frame, values)
    expected = frame.copy()
    expected["f"] = [-0.0, 9.0, 3.5, -1e-310]
    expected["s"] = ["u", "v", "w", "w"]
    expected["k"] = ["only"] * 4
    expected["i"] = pd.array([1, 8, 3, -5], dtype="Int64")
    assert_frame_equal(out, expected, check_exact=True)
    assert out.attrs == {"origin": "here"}
    assert np.signbit(out["f"].iloc[0])
    # In another order, the frame's own order stays, and numbers are those of the schema's order.
    turned = frame[list("itekfs")]
    assert np.array_equal(schema.encode(turned), schema.encode(frame), equal_nan=True)
    assert schema.missing(turned).tolist() == schema.missing(frame).tolist()
    assert_frame_equal(schema.fill(turned, values), expected[list("itekfs")], check_exact=True)
    decoded = schema.decode(values[:2])
    assert list(decoded) == list(frame)
    assert decoded["k"].tolist() == ["only", "only"]
    assert decoded[["e", "t"]].isna().all(axis=None)
    assert decoded.dtypes.tolist() == frame.dtypes.tolist()


def test_every_row_is_enough_to_be_encoded_and_filled():
    frame = mixed()
    schema = Schema.infer(frame, {"t": "text"})
    values = np.array([[9.0, 2.0, 8.0]]).repeat(4, axis=0)
    whole, numbers = schema.fill(frame, values), schema.encode(frame)
    for r in range(4):
        row = frame.iloc[[r]]
        assert np.array_equal(schema.encode(row), numbers[[r]], equal_nan=True)
        assert_frame_equal(schema.fill(row, values[[r]]), whole.iloc[[r]])
        # Made from a record, a row has types of its own where nothing is there.
        record = pd.DataFrame([row.iloc[0].to_dict()])
        out = schema.fill(record, values[[r]])
        assert out.drop(columns=["e", "t"]).isna().sum().sum() == 0
        assert out["f"].item() == whole["f"].iloc[r]
        assert out["s"].item() == whole["s"].iloc[r]
        assert out["i"].item() == whole["i"].iloc[r]


def test_a_column_that_came_without_any_value_gets_the_type_of_the_fit():
    frame = pd.DataFrame({"x": [1.5, -2.0, 3.0], "s": ["a", "b", "c"]})
    schema = Schema.infer(frame)
    empty = pd.DataFrame({"x": [None, None], "s": [NAN, NAN]}, index=[5, 5])
    out = schema.fill(empty, np.array([[7.0, 1.0], [8.0, 2.0]]))
    expected = pd.DataFrame({"x": [7.0, 8.0], "s": ["b", "c"]}, index=[5, 5])
    assert_frame_equal(out, expected)
    frame = pl.DataFrame({"x": [1, -2, 3], "s": ["a", "b", "c"]}, schema_overrides={"x": pl.Int8})
    schema = Schema.infer(frame)
    out = schema.fill(pl.DataFrame({"x": [None], "s": [None]}), np.array([[300.0, 1.0]]))
    expected = pl.DataFrame({"x": [127], "s": ["b"]}, schema_overrides={"x": pl.Int8})
    assert_polars_equal(out, expected)
    # From another container there is no such type; the values say it.
    out = schema.fill(pd.DataFrame({"x": [None], "s": [None]}), np.array([[7.0, 1.0]]))
    assert (out["x"].item(), out["s"].item()) == (7, "b")
    objects = np.array([[None, None]], dtype=object)
    assert schema.fill(objects, np.array([[7.0, 1.0]])).tolist() == [[7, "b"]]


def test_containers_may_be_mixed():
    pandas = pd.DataFrame({"x": [1.5, None, -3.0], "s": ["a", None, "b"]})
    polars = pl.DataFrame({"s": ["a", None, "b"], "x": [1.5, None, -3.0]})
    assert only(Schema.infer([[1.5], [-2.5]])).dtype == "float64"
    assert only(Schema.infer([["a"], ["b"]])).dtype == "object"
    assert only(Schema.infer(np.array([["a"], ["b"]]))).dtype == "str"
    array = np.array([[1.5, "a"], [None, None], [-3.0, "b"]], dtype=object)
    schema = Schema.infer(pandas)
    for X in (pandas, polars, array, array.tolist()):
        assert np.array_equal(schema.encode(X), [[1.5, 0], [NAN, NAN], [-3, 1]], equal_nan=True)
    out = schema.fill(polars, np.ones((3, 2)))
    assert_polars_equal(out, pl.DataFrame({"s": ["a", "b", "b"], "x": [1.5, 1.0, -3.0]}))
    assert schema.fill(array, np.ones((3, 2)))[1].tolist() == [1.0, "b"]
    of_array = Schema.infer(array)
    assert np.array_equal(of_array.encode(pandas), schema.encode(pandas), equal_nan=True)


def test_categories_that_a_table_lacks_are_added_behind_its_own():
    schema = Schema.infer(pd.DataFrame({"c": pd.Categorical(["a", "b", "c"])}))
    X = pd.DataFrame({"c": pd.Categorical(["b", None, None], categories=["b", "a"])})
    out = schema.fill(X, np.array([[0.0], [2.0], [0.0]]))
    assert out["c"].tolist() == ["b", "c", "a"]
    assert out["c"].cat.categories.tolist() == ["b", "a", "c"]
    schema = Schema.infer(pl.DataFrame({"c": ["a", "b", "c"]}))
    X = pl.DataFrame({"c": pl.Series(["b", None], dtype=pl.Enum(["b"]))})
    out = schema.fill(X, np.array([[0.0], [2.0]]))
    assert out["c"].to_list() == ["b", "c"]
    assert out["c"].dtype == pl.Enum(["b", "c"])


def test_intervals_are_categories_by_their_str():
    cut = pd.cut(pd.Series([0.5, 1.5, 2.5, NAN]), [0, 1, 2, 3])
    frame = pd.DataFrame({"c": cut})
    schema = Schema.infer(frame)
    assert only(schema).kind == "ordinal"
    assert only(schema).levels == ("(0, 1]", "(1, 2]", "(2, 3]")
    assert np.array_equal(schema.encode(frame)[:, 0], [0, 1, 2, NAN], equal_nan=True)
    out = schema.fill(frame, np.full((4, 1), 1.0))
    assert out["c"].dtype == cut.dtype
    assert out["c"].tolist() == [*cut.tolist()[:3], pd.Interval(1, 2)]
    assert schema.decode(np.array([[2.0]]))["c"].tolist() == ["(2, 3]"]


def test_mixed_objects_can_be_told_apart_by_their_str():
    X = pd.DataFrame({"m": [1, "a", None, 2.5, 2, True]}, dtype=object)
    schema = Schema.infer(X, {"m": "categorical"})
    assert only(schema).levels == ("1", "2", "2.5", "True", "a")
    assert np.array_equal(schema.encode(X)[:, 0], [0, 4, NAN, 2, 1, 3], equal_nan=True)
    # Also where a later table is not mixed.
    assert codes_of(schema, pd.DataFrame({"m": [2, 2.5]}, dtype=object)) == [1, 2]
    assert codes_of(schema, pd.DataFrame({"m": [2, 1]})) == [1, 0]
    out = schema.fill(X, np.full((6, 1), 4.0))
    assert out["m"].tolist() == [1, "a", "a", 2.5, 2, True]


def test_marks_of_missing_cells():
    frame = pd.DataFrame(
        {
            "i": [1, -999, 3],
            "o": ["a", "?", None],
            "m": [1, "?", 2.5],
            "c": pd.Categorical(["x", "?", "y"], categories=["x", "?", "y", "z"]),
            "f": [1.0, NAN, -999.0],
        }
    )
    frame["o"] = frame["o"].astype(object)
    by_text = Schema.infer(frame, missing_values="?")
    assert by_text.missing(frame).T.tolist() == [
        [False] * 3,
        [False, True, True],
        [False, True, False],
        [False, True, False],
        [False, True, False],
    ]
    assert by_text.columns[2].kind == "real"
    assert by_text.columns[3].levels == ("x", "y", "z")
    codes = by_text.encode(frame)[:, -2]
    assert np.array_equal(codes, [0, NAN, 1], equal_nan=True)
    out = by_text.fill(frame, np.tile([5.0, 5.0, 2.0, 5.0], (3, 1)))
    assert out["m"].tolist() == [1, 5.0, 2.5]
    assert out["c"].tolist() == ["x", "z", "y"]
    assert out["c"].cat.categories.tolist() == ["x", "?", "y", "z"]
    assert out["o"].tolist() == ["a"] * 3
    by_number = Schema.infer(frame[["i", "f"]], missing_values=np.int64(-999))
    assert by_number.missing_values == -999
    assert by_number.missing(frame[["i", "f"]]).T.tolist() == [
        [False, True, False],
        [False, True, True],
    ]
    enum = pl.DataFrame({"e": pl.Series(["x", "?", "y"], dtype=pl.Enum(["x", "?", "y", "z"]))})
    schema = Schema.infer(enum, missing_values="?")
    assert np.array_equal(schema.encode(enum)[:, 0], [0, NAN, 1], equal_nan=True)
    assert schema.fill(enum, np.full((3, 1), 2.0))["e"].to_list() == ["x", "z", "y"]
    for none in (None, NAN, pd.NA, np.float32("nan")):
        assert Schema.infer(frame, {"m": "text"}, missing_values=none).missing_values is None
    for bad in (True, float("inf"), [1]):
        with pytest.raises(ParameterError, match="missing_values must be"):
            Schema.infer(frame, missing_values=bad)


def test_numbers_are_brought_into_the_domain_of_the_column():
    frame = pd.DataFrame(
        {
            "p": [1.0, 2.0, None],
            "b": pd.array([1, 4, None], dtype="Int64"),
            "c": [0.0, 7.0, None],
            "q": pd.array([1, 2, None], dtype="Int64"),
            "n": [-0.5, 0.5, None],
            "w": pd.to_timedelta([1, 2, None], unit="s"),
        }
    )
    kinds = {
        "p": "positive",
        "b": ("bounded", 0.5, 4.5),
        "c": "count",
        "q": "positive",
        "n": {"kind": "bounded", "low": -1, "high": 1},
        "w": "positive",
    }
    schema = Schema.infer(frame, kinds)

    def last(*values):
        return schema.fill(frame, np.tile(values, (3, 1))).iloc[-1].tolist()

    low = last(-1.0, -9.0, -2.0, 0.2, -9.0, -1.0)
    assert low == [np.finfo(float).tiny, 1, 0, 1, -1.0, pd.Timedelta(1, low[-1].unit)]
    high = last(3.25, 9.0, 2.6, 1.6, 9.0, 1.0)
    assert high == [3.25, 4, 2.6, 2, 1.0, pd.Timedelta(1, "s")]
    small = Schema.infer(frame[["p"]].astype("float32"), {"p": "positive"})
    out = small.fill(frame[["p"]].astype("float32"), np.full((3, 1), 1e-50))
    assert out["p"].iloc[2] == np.finfo(np.float32).tiny
    wide = Schema.infer(np.array([[1], [-5], [7]], dtype=np.int64))
    assert wide.decode(np.array([[1e30], [-1e30]])).tolist() == [[2**63 - 1024], [-(2**63)]]
    wide = Schema.infer(np.array([[1], [2**63 + 5], [7]], dtype=np.uint64), {0: "real"})
    assert wide.decode(np.array([[1e30], [-1.0]])).tolist() == [[2**64 - 2048], [0]]


def test_bounds_are_as_wide_as_their_native_type_and_numbers_stay_inside():
    X = np.array([[0.1], [0.7], [0.4]], dtype=np.float32)  # 0.1 and 0.7 are rounded up and down
    schema = Schema.infer(X, {0: ("bounded", 0.1, 0.7)})
    numbers = schema.encode(X)[:, 0]
    assert numbers.min() >= 0.1
    assert numbers.max() <= 0.7
    assert not np.isnan(numbers).any()
    assert np.isnan(codes_of_quietly(schema, np.float32([[0.7001]])))


def codes_of_quietly(schema, X):
    with pytest.warns(UnseenCategoryWarning):
        return schema.encode(X)[0, 0]


def test_numbers_that_no_cell_can_hold_are_refused():
    frame = pd.DataFrame({"s": ["a", None, "b"], "x": [1.5, 2.5, None]})
    schema = Schema.infer(frame)
    for code in (2.0, -1.0, 0.5, NAN):
        with pytest.raises(DataError, match=rf"'s' cannot be filled with {code}; a code below 2"):
            schema.fill(frame, np.full((3, 2), code))
    with pytest.raises(DataError, match="'x' cannot be filled with nan; a finite number"):
        schema.fill(frame, np.array([[0, NAN]] * 3))
    with pytest.raises(DataError, match="'x' cannot be filled with inf"):
        schema.decode(np.array([[0, np.inf]]))
    # What no cell needs is not looked at.
    values = np.array([[NAN, NAN], [1, NAN], [NAN, 0.5]])
    assert schema.fill(frame, values)["s"].tolist() == ["a", "b", "b"]
    with pytest.raises(DataError, match=r"shape \(3, 1\); \(3, 2\) is needed"):
        schema.fill(frame, np.ones((3, 1)))
    with pytest.raises(DataError, match=r"shape \(2, 3\); \(2, 2\) is needed"):
        schema.decode(np.ones((2, 3)))
    numbers = pd.DataFrame({"s": [1.0, None], "x": [1.5, 2.5]})
    with pytest.raises(DataError, match=r"'s' of type float64 cannot hold b.*type str.*other val"):
        schema.fill(numbers, np.ones((2, 2)))
    with pytest.raises(DataError, match="'s' of type float64 cannot hold b"):
        schema.fill(np.array([[NAN, 1.0]]), np.ones((1, 2)))


def test_what_the_fit_did_not_see_is_unknown_with_one_warning_and_stays():
    frame = pd.DataFrame(
        {"s": ["a", "b", "c"], "p": [1.0, 2.0, 4.0], "n": [0, 3, 1], "u": [0.0, 1.0, 0.5]}
    )
    schema = Schema.infer(frame, {"p": "positive", "n": "count", "u": ("bounded", 0, 1)})
    later = pd.DataFrame(
        {
            "s": ["x", "a", "y", "z", "v", None],
            "p": [1.0, -2.0, 0.0, 4.0, 1.0, 1.0],
            "n": [0.5, -1.0, 3.0, 1.0, 1.0, 1.0],
            "u": [0.0, 1.0, 1.5, -0.5, 1.0, 1.0],
        }
    )
    with pytest.warns(SkvaeWarning) as caught:
        numbers = schema.encode(later)
    (warning,) = caught
    assert warning.category is UnseenCategoryWarning
    assert warning.filename == __file__
    text = str(warning.message)
    assert "'s' (categorical), row 0: 'x', 'y', 'z' and others not one of 'a', 'b', 'c'" in text
    assert "(4 cell(s))" in text
    assert "'p' (positive), row 1: -2.0, 0.0 not a number > 0 (2 cell(s))" in text
    assert "'n' (count), row 0: 0.5, -1.0 not a whole number >= 0" in text
    assert "'u' (bounded), row 2: 1.5, -0.5 not between 0 and 1" in text
    expected = [
        [NAN, 1, NAN, 0],
        [0, NAN, NAN, 1],
        [NAN, NAN, 3, NAN],
        [NAN, 4, 1, NAN],
        [NAN, 1, 1, 1],
        [NAN, 1, 1, 1],
    ]
    assert np.array_equal(numbers, expected, equal_nan=True)
    assert schema.missing(later).sum() == 1
    out = schema.fill(later, np.ones((6, 4)))
    assert_frame_equal(out.iloc[:5], later.iloc[:5])
    assert out["s"].iloc[5] == "b"
    with pytest.raises(DataError, match=r"'s' \(categorical\), row 0: 'x'"):
        schema.encode(later, unseen="error")
    with pytest.raises(ParameterError, match="unseen must be"):
        schema.encode(later, unseen="ignore")
    two = Schema.infer(pd.DataFrame({"y": ["no", "yes"]}))
    with pytest.warns(UnseenCategoryWarning, match=r"row 1: 'a', 'b', 'c' not one of"):
        two.encode(pd.DataFrame({"y": ["no", "a", "b", "c"]}))
    with pytest.warns(UnseenCategoryWarning, match=r"\(binary\), row 1: 'maybe' not one of"):
        assert np.isnan(two.encode(pd.DataFrame({"y": ["no", "maybe"]}))[1, 0])


def test_values_of_another_type_are_errors():
    schema = Schema.infer(pd.DataFrame({"x": [1.5, 2.5], "d": pd.to_datetime(["2020", "2021"])}))
    good = pd.to_datetime(["2020"])
    with pytest.raises(DataError, match=r"'x', row 0: 'a' is not a number.*kind 'real'"):
        schema.encode(pd.DataFrame({"x": ["a"], "d": good}))
    with pytest.raises(DataError, match=r"'d', row 0: 3 is not a date.*kind 'datetime'"):
        schema.encode(pd.DataFrame({"x": [1.0], "d": [3]}))
    with pytest.raises(DataError, match=r"'x', row 0: '2020-01-01.*' is not a number"):
        schema.encode(pd.DataFrame({"x": good, "d": good}))
    with pytest.raises(DataError, match=r"'x', row 1: -inf is not a finite.*1 cell"):
        schema.encode(pd.DataFrame({"x": [1.0, -np.inf], "d": good.repeat(2)}))
    with pytest.raises(DataError, match=r"'x' mixes types: 1 \(int\) in row 0 and 'a' \(str\)"):
        schema.encode(pd.DataFrame({"x": [1, "a"], "d": good.repeat(2)}, dtype=object))
    levels = Schema.infer(pd.DataFrame({"x": [0, 1]}))
    with pytest.warns(UnseenCategoryWarning, match="1970"):
        levels.encode(pd.DataFrame({"x": pd.to_datetime([0, 1], unit="ns")}))
    assert codes_of(levels, pd.DataFrame({"x": [True, False]})) == [1, 0]
    durations = Schema.infer(pd.DataFrame({"x": pd.to_timedelta([1, 2], unit="s")}))
    with pytest.raises(DataError, match="is not a duration"):
        durations.encode(pd.DataFrame({"x": [1.0]}))


def test_other_columns_are_named():
    frame = pd.DataFrame({"a": [1.5, 2.5], "b": [1.5, 2.5], 3: [0.5, 1.5]})
    schema = Schema.infer(frame)
    schema.check(frame[[3, "b", "a"]])
    with pytest.raises(DataError, match=r"missing: 'a', 3; not there in the fit: 'c'\."):
        schema.check(frame[["b"]].assign(c=1))
    with pytest.raises(DataError, match=r"not there in the fit: 'c'\."):
        schema.encode(frame.assign(c=1))
    with pytest.raises(DataError, match="has 2 columns, but 3 were"):
        schema.missing(np.ones((1, 2)))
    twice = pd.DataFrame([[1.5, 2.5, 3.5]], columns=["a", "b", "a"])
    for use in (Schema.infer, schema.check, schema.encode):
        with pytest.raises(DataError, match=r"the same name: 'a'\."):
            use(twice)
    nested = pd.DataFrame([[1.5]], columns=pd.MultiIndex.from_tuples([("a", "b")]))
    with pytest.raises(DataError, match=r"2 levels, such as \('a', 'b'\)"):
        Schema.infer(nested)
    with pytest.raises(DataError, match=r"1\.5 is float"):
        Schema.infer(pd.DataFrame({1.5: [1, 2]}))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (pd.DataFrame({"a": []}), "0 rows and 1 columns"),
        (pd.DataFrame(index=[1]), "1 rows and 0 columns"),
        (np.ones(3), r"shape \(3,\)"),
        (np.ones((2, 2), dtype=complex), "array of complex128"),
        (np.ones((2, 2), dtype="datetime64[Y]"), r"array of datetime64\[Y\]"),
        (np.zeros((2, 2), dtype=[("a", int)]), r"array of \[\(.a."),
        (np.ma.masked_array(np.ones((2, 2))), "masked"),
        ([[1], [1, 2]], "not a table"),
        (pd.Series([1, 2]), "received a Series"),
        (pl.Series([1, 2]), "received a Series"),
        (pl.DataFrame({"a": [1]}).lazy(), "received a LazyFrame"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_is_no_table_is_refused(X, message):
    with pytest.raises(DataError, match=message):
        Schema.infer(X)


def test_sparse_matrices_are_refused():
    from scipy import sparse

    with pytest.raises(DataError, match="toarray"):
        Schema.infer(sparse.eye_array(2).tocsr())


def test_decoding_what_has_no_missing_value():
    frame = pd.DataFrame({"x": [0.5, 1.5], "i": [1, 2], "b": [True, False], "u": [1, 2]})
    frame["u"] = frame["u"].astype("uint8")
    schema = Schema.infer(frame, {"i": "text", "b": "text", "u": "text"})
    out = schema.decode(np.array([[2.5]]))
    assert out.dtypes.astype(str).tolist() == ["float64", "Int64", "boolean", "UInt8"]
    assert out.isna().to_numpy().tolist() == [[False, True, True, True]]
    array = Schema.infer(np.array([[1, 7], [-2, 8], [4, 9]]), {1: "text"})
    assert np.array_equal(array.decode(np.array([[2.0]])), [[2.0, NAN]], equal_nan=True)
    lists = pl.DataFrame({"l": [[1, 2], [3, 4]], "x": [0.5, 1.5]})
    schema = Schema.infer(lists, {"l": "text"})
    assert schema.missing(lists).tolist() == [[False, False], [False, False]]
    assert schema.decode(np.array([[2.5]]))["l"].to_list() == [None]
    assert schema.decode(np.zeros((0, 1))).shape == (0, 2)
    odd = pd.DataFrame({"c": np.array([1j, 2j]), "x": [0.5, 1.5]})
    assert Schema.infer(odd, {"c": "text"}).decode(np.ones((1, 1)))["c"].isna().all()


def test_constants_of_every_type_are_exact():
    moment = pd.Timestamp("2020-01-01 00:00:00.123456789", tz="Europe/Berlin")
    frame = pd.DataFrame(
        {
            "d": pd.Series([moment, None], dtype="datetime64[ns, Europe/Berlin]"),
            "t": pd.Series([pd.Timedelta(1234567890123456789), None]),
            "i": pd.array([2**62 + 1, None], dtype="Int64"),
            "f": pd.array([0.1, None], dtype="float32"),
            "b": pd.array([True, None], dtype="boolean"),
            "c": pd.Categorical(["b", None], categories=["a", "b"]),
            "o": pd.Series([dt.date(2020, 1, 1), None], dtype=object),
            "x": [0.5, 1.5],
        }
    )
    schema = Schema.infer(frame)
    assert [c.kind for c in schema.columns] == ["constant"] * 7 + ["real"]
    assert schema.modelled == (7,)
    schema = Schema.from_json(json.loads(json.dumps(schema.to_json())))
    out = schema.fill(frame, np.zeros((2, 1)))
    assert out.dtypes.tolist() == frame.dtypes.tolist()
    for name in frame.columns[:-1]:
        assert out[name].iloc[1] == frame[name].iloc[0] == out[name].iloc[0]
    decoded = schema.decode(np.array([[0.5], [1.5]]))
    assert_frame_equal(decoded, out)
    # In another unit of time, too.
    coarse = frame[["d"]].astype("datetime64[s, Europe/Berlin]")
    later = Schema.infer(frame[["d"]]).fill(coarse.iloc[[1]], np.zeros((1, 0)))
    assert later["d"].iloc[0] == moment.floor("s")


@FEW
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(allow_infinity=False)),
            st.one_of(st.none(), st.sampled_from(["", "a", "é", "1", "nan"])),
            st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
            st.one_of(st.none(), st.booleans()),
            st.one_of(st.none(), st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_cells_that_are_there_come_back_bit_for_bit(rows):
    names = ["f", "s", "i", "b", "d"]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    pandas = pd.DataFrame(
        {
            "f": pd.array(columns["f"], dtype="float64"),
            "s": pd.array(columns["s"], dtype="string"),
            "i": pd.array(columns["i"], dtype="Int64"),
            "b": pd.array(columns["b"], dtype="boolean"),
            "d": pd.array(columns["d"], dtype="datetime64[us]"),
        }
    )
    types = {"f": pl.Float64, "s": pl.String, "i": pl.Int64, "b": pl.Boolean, "d": pl.Datetime}
    for X in (pandas, pl.DataFrame(columns, schema=types)):
        schema = Schema.infer(X)
        assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
        numbers, missing = schema.encode(X), schema.missing(X)
        of_model = list(schema.modelled)
        assert np.array_equal(np.isnan(numbers), missing[:, of_model])
        out = schema.fill(X, np.where(np.isnan(numbers), 0.0, numbers))
        known = np.array([bool(c.levels) or c.is_modelled for c in schema.columns])
        assert not schema.missing(out)[:, known].any()
        assert list(out.columns) == names
        for j, name in enumerate(names):
            there = np.flatnonzero(~missing[:, j])
            old, new = X[name][there.tolist()], out[name][there.tolist()]
            assert old.dtype == new.dtype
            assert list(old) == list(new)
            if name == "f":
                bits = [np.asarray(v, dtype=np.float64).view(np.int64) for v in (old, new)]
                assert bits[0].tolist() == bits[1].tolist()


def test_a_schema_is_json_and_back():
    frame = mixed()
    frame["c"] = pd.Categorical(["b", "a", "b", None], categories=["b", "a", "z"], ordered=True)
    frame["d"] = pd.to_datetime(["2020-01-01", "2020-01-02", None, None]).tz_localize("UTC+01:00")
    schema = Schema.infer(frame, {"f": ("bounded", -1, 4), "t": "text"}, missing_values=-1)
    text = json.dumps(schema.to_json(), allow_nan=False)
    again = Schema.from_json(json.loads(text))
    assert again == schema
    assert again.missing_values == -1
    assert np.array_equal(again.encode(frame), schema.encode(frame), equal_nan=True)
    assert again.columns[0].low == -1
    assert again.columns[6].ordered is True
    short = {"columns": [{"name": "a", "kind": "real", "dtype": "float64"}]}
    known = Schema.from_json({**short, "container": "pandas", "missing_values": None})
    assert known.columns == (Column("a", "real", "float64"),)


def column(**changes):
    return {"name": "a", "kind": "real", "dtype": "float64", **changes}


def level_column(*levels, kind="categorical", dtype="str", **changes):
    return column(kind=kind, dtype=dtype, levels=list(levels), **changes)


CATEGORY = {"categories": ["u", "v"], "categories_dtype": "str"}
DATE = {"dtype": "datetime64[ns]", "kind": "datetime", "time": "datetime64[ns]"}


@pytest.mark.parametrize(
    "good",
    [
        column(),
        level_column("u", "v"),
        level_column("u", "v", kind="binary", dtype="object"),
        level_column("u", "v", dtype="category", **CATEGORY),
        level_column(0, 1.0, dtype="int64"),
        level_column(False, True, kind="binary", dtype="bool"),
        level_column(0.5, 1.5, dtype="float32"),
        level_column(kind="constant", dtype="foo"),
        level_column(5, kind="constant", dtype="datetime64[ns]", time="datetime64[ns]"),
        column(kind="text", dtype="foo"),
        column(**DATE),
        column(kind="bounded", low=0, high=1.5),
        column(kind="positive", low=None, high=2),
        column(kind="count", low=0, high=0),
        column(dtype="timedelta64[s]", time="timedelta64[s]"),
    ],
)
def test_columns_that_fit_together_are_read(good):
    schema = Schema.from_json({"columns": [good], "container": "pandas", "missing_values": None})
    assert Schema.from_json(schema.to_json()) == schema
    assert schema.decode(np.ones((2, len(schema.modelled)))).shape == (2, 1)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        {},
        column(extra=1),
        {"name": "a", "kind": "real"},
        column(name=None),
        column(name=True),
        column(kind="reel"),
        column(kind=["real"]),
        column(dtype=3),
        column(dtype="foo"),
        column(dtype="__import__('os')"),
        column(whole=1),
        column(levels="ab"),
        column(levels=["a"]),
        level_column("a", kind="binary"),
        level_column("a", "b", "c", kind="binary"),
        level_column("a"),
        level_column("a", "a"),
        level_column("a", None),
        level_column("a", ["b"]),
        level_column(0.5, 1e999),
        level_column(1, "a"),
        level_column(1, 2),
        level_column("a", "b", dtype="int64"),
        level_column(0.5, 1.5, dtype="int64"),
        level_column(1, 2, dtype="bool"),
        level_column("a", "b", dtype="datetime64[ns]"),
        level_column(1, 2, dtype="object", time="datetime64[ns]"),
        level_column(1, 2, dtype="object", as_text=True),
        level_column("a", "b", kind="constant"),
        level_column("u", "w", dtype="category", **CATEGORY),
        level_column("u", "v", dtype="category", categories=["u", "v"], categories_dtype="int64"),
        level_column("u", "v", dtype="category", categories=["u", "v"], categories_dtype="foo"),
        level_column("u", "v", dtype="category", categories=["u", "v", "v"]),
        level_column(1 << 63, kind="constant", dtype="datetime64[ns]", time="datetime64[ns]"),
        level_column(1.5, kind="constant", dtype="datetime64[ns]", time="datetime64[ns]"),
        column(dtype="bool"),
        column(dtype="str"),
        column(dtype="category"),
        column(dtype="datetime64[ns]"),
        column(time="datetime64[ns]"),
        column(kind="datetime"),
        column(**{**DATE, "time": "timedelta64[ns]"}),
        column(**{**DATE, "time": "datetime64[Y]"}),
        column(**{**DATE, "dtype": "datetime64[ns, ../../etc/passwd]"}),
        column(**{**DATE, "dtype": "datetime64[ns, Not/There]"}),
        column(kind="count", dtype="timedelta64[s]", time="timedelta64[s]"),
        column(kind="bounded"),
        column(kind="bounded", low=1, high=1),
        column(low=2, high=1),
        column(low="1"),
        column(low=True),
        column(high=float("nan")),
        column(kind="positive", high=0),
        column(kind="count", high=-1),
    ],
)
def test_columns_that_cannot_be_are_refused(bad):
    with pytest.raises(ModelFileError):
        Schema.from_json({"columns": [bad], "container": "pandas", "missing_values": None})


@pytest.mark.parametrize(
    "changes",
    [
        {"columns": []},
        {"columns": {}},
        {"columns": 3},
        {"columns": None},
        {"columns": [column(), column()]},
        {"container": "dask"},
        {"container": ["pandas"]},
        {"container": "numpy"},
        {"missing_values": [1]},
        {"missing_values": float("inf")},
        {"extra": 1},
        {"container": "numpy", "columns": [column(name=1)]},
        {"container": "numpy", "columns": [column(name=0), column(name=1, dtype="float32")]},
        {"container": "numpy", "columns": [column(name=0, kind="text", dtype="foo")]},
        {"container": "polars", "columns": [column(name=0, dtype="Float64")]},
        {"container": "polars"},
    ],
)
def test_schemas_that_cannot_be_are_refused(changes):
    good = {"columns": [column()], "container": "pandas", "missing_values": None}
    assert Schema.from_json(good).modelled == (0,)
    with pytest.raises(ModelFileError):
        Schema.from_json({**good, **changes})
    with pytest.raises(ModelFileError):
        Schema.from_json(list(good))


@FEW
@given(
    st.sampled_from(["name", "kind", "dtype", "levels", "low", "high", "time", "categories"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
        max_leaves=5,
    ),
)
def test_any_value_of_a_field_is_read_or_refused(field, value):
    data = {"columns": [level_column("u", "v")], "container": "pandas", "missing_values": None}
    data["columns"][0][field] = value
    try:
        schema = Schema.from_json(data)
    except ModelFileError:
        return
    assert Schema.from_json(json.loads(json.dumps(schema.to_json(), allow_nan=False))) == schema
    schema.decode(np.ones((1, len(schema.modelled))))


def test_kinds_and_errors_of_columns():
    assert len(KINDS) == 10
    with pytest.raises(ParameterError, match=r"kind must be.*Did you mean 'real'"):
        Column("a", "reall", "float64")
    assert Column("a", "real", "float64").is_modelled
    assert not Column("a", "text", "str").is_modelled
    assert not Column("a", "constant", "str").is_modelled


def test_frames_of_a_library_are_read_without_the_other():
    code = """
import sys
import numpy as np
from skvae.schema import Schema
X = np.array([[1.5, np.nan], [0.5, 2.5], [-1.0, -3.0]])
schema = Schema.infer(X)
schema.fill(X, schema.decode(np.ones((3, 2))))
assert not {"torch", "sklearn", "pandas", "polars", "pyarrow"} & set(sys.modules)
import polars as pl
X = pl.DataFrame({"a": [1.5, None, 2.5], "b": ["u", None, "v"]})
Schema.infer(X).fill(X, np.zeros((3, 2)))
assert not {"torch", "sklearn", "pandas"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr


def test_indices_and_types_of_series_survive_each_alone():
    series = pd.Series([1.5, None, 2.5], index=[3, 3, 1], name="x", dtype="float32")
    out = filled(series.to_frame(), 0, 7.25, 0)["x"]
    assert_series_equal(out, series.fillna(np.float32(7.25)))


@pytest.mark.parametrize("frame_of", [pd.DataFrame, pl.DataFrame])
def test_days_stay_days_and_other_dates_do_not(frame_of):
    days = [dt.datetime(2020, 1, 1), dt.datetime(2020, 2, 1), None]
    hours = [dt.datetime(2020, 1, 1), dt.datetime(2020, 2, 1, 12), None]
    lasted = [dt.timedelta(seconds=1), dt.timedelta(hours=1), None]
    frame = frame_of({"day": days, "hour": hours, "lasted": lasted})
    schema = Schema.infer(frame)
    assert [c.whole for c in schema.columns] == [True, False, True]
    full = schema.fill(frame, np.tile([18_300.4, 18_300.25, 7.6], (3, 1)))
    row = full.iloc[2] if isinstance(full, pd.DataFrame) else full.row(2, named=True)
    assert row["day"] == dt.datetime(2020, 2, 8)
    assert row["hour"] == dt.datetime(2020, 2, 8, 6)
    assert row["lasted"] == dt.timedelta(seconds=8)
