"""What kind a column is, by its values or by what the user says."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from skvae.exceptions import DataError, ParameterError
from skvae.schema import Schema


def infer(values, kind=None, **options):
    """Return the column that values are; lists are of the type that pandas gives them."""
    series = values if isinstance(values, pd.Series | pl.Series) else pd.Series(values)
    frame = series.rename("x").to_frame()
    (column,) = Schema.infer(frame, None if kind is None else {"x": kind}, **options).columns
    return column


def spread(n, distinct):
    """Return n strings of which some number are distinct."""
    return [f"s{i % distinct}" for i in range(n)]


@pytest.mark.parametrize(
    ("values", "kind", "levels"),
    [
        ([True, False], "binary", (False, True)),
        (pd.Series([True, None, False], dtype="boolean"), "binary", (False, True)),
        ([1, 0, 1], "binary", (0, 1)),
        ([1.0, 0.0, None], "binary", (0.0, 1.0)),
        (["yes", "no", None], "binary", ("no", "yes")),
        (pd.Categorical(["b", "a"], categories=["b", "a"]), "binary", ("b", "a")),
        (pd.Categorical(["b", "a"], categories=["b", "a"], ordered=True), "binary", ("b", "a")),
        (
            pd.Categorical(["b", "a"], categories=["b", "c", "a"]),
            "categorical",
            ("b", "c", "a"),
        ),
        (
            pd.Categorical(["b", "a"], categories=["b", "c", "a"], ordered=True),
            "ordinal",
            ("b", "c", "a"),
        ),
        (["b", "c", "a"], "categorical", ("a", "b", "c")),
        (pl.Series(["b", "c", "a"]), "categorical", ("a", "b", "c")),
        (pl.Series(["b", "a"], dtype=pl.Enum(["b", "z", "a"])), "categorical", ("b", "z", "a")),
        (pl.Series(["b", "a"], dtype=pl.Enum(["b", "a"])), "binary", ("b", "a")),
        (pl.Series(["b", "c", "a"], dtype=pl.Categorical), "categorical", ("a", "b", "c")),
        ([1, 2], "real", ()),
        ([0, 2], "real", ()),
        ([-1.5, 2.0, None], "real", ()),
        (pd.to_datetime(["2020", "2021"]), "datetime", ()),
        (pd.to_timedelta([1, 2]), "real", ()),
        ([7, 7, 7], "constant", (7,)),
        (["a", None], "constant", ("a",)),
        ([False], "constant", (False,)),
        ([None, None], "constant", ()),
        ([float("nan")], "constant", ()),
        (pd.Categorical([None], categories=["a", "b"]), "constant", ()),
        (pd.Categorical(["a"], categories=["a", "b"]), "constant", ("a",)),
    ],
)
def test_types_and_few_values_say_the_kind(values, kind, levels):
    column = infer(values)
    assert (column.kind, column.levels) == (kind, levels)
    assert [type(v) for v in column.levels] == [type(v) for v in levels]


# Twelve numbers >= 0 of mean 1, whose variance is 11/6 and skewness 1.2.
COUNTS = [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 4]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (COUNTS, "count"),
        ([float(v) for v in COUNTS], "count"),
        ([*map(float, COUNTS), None], "count"),
        ([v + 0.5 * (v == 4) for v in COUNTS], "real"),  # a fraction
        ([v - (v == 0) for v in COUNTS], "real"),  # negative
        ([min(v, 2) for v in COUNTS], "real"),  # never more than two
        ([min(v, 3) for v in COUNTS], "count"),
        ([4 - v for v in COUNTS], "real"),  # skewed to the left
        ([v if v != 1 else 0 for v in COUNTS], "count"),  # three distinct values
        ([4 * (v > 2) for v in COUNTS], "real"),  # two distinct values
        ([v + 20 for v in COUNTS], "real"),  # hardly spread
        ([v + 2 for v in COUNTS], "count"),  # variance 1.5, mean 3
        ([v + 3 for v in COUNTS], "real"),  # variance 1.5, mean 4
        ([v if v < 4 else 999_999 for v in COUNTS], "count"),
        ([v if v < 4 else 1_000_000 for v in COUNTS], "real"),
        ([v * 19 for v in COUNTS], "count"),  # median 9.5
        ([v * 20 for v in COUNTS], "real"),
    ],
)
def test_counts_are_whole_and_spread_to_the_right(values, kind):
    column = infer(values)
    assert column.kind == kind
    observed = [v for v in values if v is not None]
    assert (column.low, column.high) == (min(observed), max(observed))
    is_integer = all(isinstance(v, int) for v in values)
    assert column.whole == is_integer


def test_the_thresholds_of_counts_are_those_of_the_rule():
    assert np.var(COUNTS) == 1.5
    assert np.mean(COUNTS) == 1
    at = np.array(COUNTS) + 2
    assert np.var(at) == 0.5 * np.mean(at)
    # Skewness: three values at a, one at b have 2/sqrt(3) = 1.15; halves of both have none.
    assert infer([1, 1, 1, 9, 5]).kind == "count"
    values = [0] * 11 + [5] * 1 + [10] * 9
    skewness = np.mean((np.array(values) - np.mean(values)) ** 3) / np.std(values) ** 3
    assert 0 < skewness < 0.5
    assert infer(values).kind == "real"
    values = [0] * 13 + [5] * 1 + [10] * 7
    skewness = np.mean((np.array(values) - np.mean(values)) ** 3) / np.std(values) ** 3
    assert 0.5 < skewness < 0.9
    assert infer(values).kind == "count"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.1, 0.2, 0.3, 0.4], "real"),
        ([1.0] * 5 + [1.2] * 4 + [9.5], "positive"),  # skewness 2.7, 9 medians
        ([1.0] * 3 + [1.2] * 2 + [9.5], "real"),  # skewness 1.8, 9 medians
        ([0.2] * 3 + [0.25, 10.04], "positive"),  # skewness 1.5, 50.2 medians
        ([0.2] * 3 + [0.25, 9.96], "real"),  # 49.8 medians
        ([0.1] * 3 + [0.2] * 2 + [9.5], "positive"),  # skewness 1.8, 63 medians
        ([0.2] * 3 + [0.25] * 2 + [9.5], "real"),  # skewness 1.8, 42 medians
        ([0.0] + [0.1] * 5 + [0.2] * 4 + [9.5], "real"),
        ([-0.1] + [0.1] * 5 + [0.2] * 4 + [9.5], "real"),
        ([1] * 8 + [2, 2_000_000], "positive"),  # too large for counts
        ([1e300] * 3 + [2e300, 1e-300], "real"),
        ([1e-300] * 3 + [2e-300, 1e300], "positive"),
    ],
)
def test_positive_numbers_are_far_from_symmetric(values, kind):
    assert infer(values).kind == kind


def test_integers_that_are_one_float64_are_still_told_apart():
    column = infer([2**60, 2**60 + 1, 2**60 + 1])
    assert (column.kind, column.low, column.high) == ("real", 2.0**60, 2.0**60)


def test_strings_are_categories_unless_they_name_rows_or_are_prose():
    assert infer(spread(50, 50)).kind == "categorical"
    assert infer(spread(51, 51)).kind == "text"
    assert infer(spread(102, 51)).kind == "categorical"  # half of the cells
    assert infer([*spread(101, 51), None, None]).kind == "text"  # of those that are there
    long = ["y" * 58 + f"{i:02d}" for i in range(51)] * 3
    assert infer(long).kind == "categorical"
    assert infer(["y" + v for v in long]).kind == "text"
    assert infer(["y" + v for v in long[:50]] * 3).kind == "categorical"
    many = infer(spread(20_000, 10_000))
    assert many.kind == "categorical"
    assert len(many.levels) == 10_000
    assert infer(spread(20_002, 10_001)).kind == "text"
    # What a type declares are categories, however many there are for the cells.
    assert infer(pd.Categorical(spread(51, 51))).kind == "categorical"
    assert infer(pd.Categorical(spread(10_001, 10_001))).kind == "text"
    assert infer(pd.Series(spread(60, 60)), "categorical").kind == "categorical"


def test_integers_in_even_steps_name_rows():
    assert infer(range(1, 102)).kind == "text"
    assert infer(range(1, 101)).kind == "real"
    assert infer(range(500, 0, -3)).kind == "text"
    assert infer([*range(1, 101), 103]).kind == "real"
    assert infer(np.arange(101.0)).kind == "real"
    assert infer(pd.array([*range(101), None], dtype="Int64")).kind == "text"
    constant = infer([5] * 101)
    assert (constant.kind, constant.levels) == ("constant", (5,))


def test_arrays_follow_the_same_rules():
    X = np.stack([np.tile(COUNTS, 2), np.arange(24) % 2, np.arange(24) - 5], axis=1)
    for dtype in (np.int64, np.float32):
        schema = Schema.infer(X.astype(dtype))
        assert [c.kind for c in schema.columns] == ["count", "binary", "real"]
        assert {c.dtype for c in schema.columns} == {np.dtype(dtype).name}
        assert [c.whole for c in schema.columns] == [dtype == np.int64, False, dtype == np.int64]
    objects = np.array([["a", 1.5, True], ["b", None, False], ["c", -2, None]], dtype=object)
    assert [c.kind for c in Schema.infer(objects).columns] == ["categorical", "real", "binary"]
    assert Schema.infer(objects, {np.int64(1): "text"}).columns[1].kind == "text"


@pytest.mark.parametrize(
    ("values", "declared", "kind", "expected"),
    [
        ([1.5, 2.5], "positive", "positive", {"low": 1.5, "high": 2.5, "whole": False}),
        ([1, 2], "positive", "positive", {"whole": True}),
        ([0, 1], "real", "real", {"low": 0, "high": 1, "whole": True}),
        ([0.0, 3.0], "count", "count", {"whole": False}),
        ([0.5, 0.7], ("bounded", 0, 1), "bounded", {"low": 0, "high": 1}),
        ([0, 1, 5], ["bounded", 0, 5], "bounded", {"low": 0, "high": 5, "whole": True}),
        ([0.5, 0.7], {"kind": "bounded", "low": 0.5, "high": 0.7}, "bounded", {"high": 0.7}),
        ([3, 1, 2], "categorical", "categorical", {"levels": (1, 2, 3)}),
        ([3.5, 1, 2], "ordinal", "ordinal", {"levels": (1.0, 2.0, 3.5)}),
        ([1, 2, 2], "binary", "binary", {"levels": (1, 2)}),
        ([True, False], "categorical", "categorical", {"levels": (False, True)}),
        (["b", "a"], ("ordinal", ["b", "c", "a"]), "ordinal", {"levels": ("b", "c", "a")}),
        (["b", "a"], ("binary", ["b", "a"]), "binary", {"levels": ("b", "a")}),
        ([2, 1], ("ordinal", np.array([2, 3, 1])), "ordinal", {"levels": (2, 3, 1)}),
        (["b", "a"], {"kind": "categorical", "levels": ["b", "a"]}, "categorical", {}),
        (
            pd.Categorical(["b", "a"], categories=["b", "a"]),
            ("ordinal", ["a", "b", "new"]),
            "ordinal",
            {"levels": ("a", "b", "new"), "categories": ("b", "a", "new")},
        ),
        (pd.Categorical(["b", "a"], ordered=True), "ordinal", "ordinal", {}),
        ([1, "a", 1.5], "text", "text", {}),
        ([float("inf"), 1.0], "text", "text", {}),
        ([None, None], "text", "text", {}),
        ([None, None], "real", "constant", {"levels": ()}),
        ([2.0, 2.0], ("bounded", 0, 5), "constant", {"levels": (2.0,)}),
        ([2.0, 2.0], "real", "constant", {"levels": (2.0,)}),
        (["a", "a"], ("binary", ["a", "b"]), "constant", {"levels": ("a",)}),
        (["a", "a"], "categorical", "constant", {"levels": ("a",)}),
        (["a", "a"], "constant", "constant", {"levels": ("a",)}),
        (pd.to_datetime(["2020", "2021"]), "datetime", "datetime", {}),
        (
            pd.to_timedelta([1, 2], unit="h"),
            ("bounded", 0, 7200),
            "bounded",
            {"low": 0.0, "high": 7200.0},
        ),
        (pd.to_timedelta([1, 2], unit="h"), "positive", "positive", {"low": 3600, "high": 7200}),
    ],
)
def test_what_is_declared_holds(values, declared, kind, expected):
    column = infer(values, declared)
    assert column.kind == kind
    for field, value in expected.items():
        assert getattr(column, field) == value


def test_declared_levels_that_a_categorical_lacks_can_be_decoded():
    frame = pd.DataFrame({"x": pd.Categorical(["b", "a"], categories=["b", "a"])})
    schema = Schema.infer(frame, {"x": ("ordinal", ["a", "b", "new"])})
    assert schema.encode(frame)[:, 0].tolist() == [1, 0]
    assert schema.decode(np.array([[2.0], [0.0]]))["x"].tolist() == ["new", "a"]


@pytest.mark.parametrize(
    ("values", "declared", "message"),
    [
        (
            [1.0, 0.0],
            "positive",
            r"'x', row 1: 0\.0 is not a number > 0.*as positive \(1",
        ),
        ([1.0, -1.0, 0.5], "count", r"row 1: -1\.0 is not a whole number >= 0.*\(2 such"),
        ([1.0, 2.0], ("bounded", 0, 1), r"row 1: 2\.0 is not between 0 and 1"),
        ([-1.0, 0.0], ("bounded", 0, 1), r"row 0: -1\.0 is not between"),
        ([3.0, 3.0], ("bounded", 0, 1), r"row 0: 3\.0 is not between"),
        (["a", None, "b"], ("ordinal", ["a", "c"]), "row 2: 'b' is not one of 'a', 'c'"),
        (["a", "a"], ("ordinal", ["b", "c"]), "row 0: 'a' is not one of 'b', 'c'"),
        (list("hhhg"), ("categorical", list("abcdefh")), r"row 3: 'g' .*'f' and 1 more"),
        (list("abcd"), "binary", r"'x' has 4 distinct values, 'a', 'b', 'c', but a binary"),
        (["a", None, "b"], "constant", "cannot be constant: it has 2 distinct values.*'a', 'b'"),
        ([None, "a", "b"], "real", "cannot be real: it holds text values, such as 'a' in row 1"),
        (["2020-01-01", "2021-01-01"], "datetime", "cannot be datetime: it holds text"),
        ([1.0, 2.0], "datetime", "cannot be datetime: it holds float"),
        ([True, False], "real", "cannot be real: it holds bool"),
        (pd.to_timedelta([1, 2]), "count", "cannot be count: it holds duration"),
        (pd.to_datetime(["2020", "2021"]), "positive", "cannot be positive: it holds date"),
        ([1.0, None, np.inf, -np.inf], None, r"'x', row 2: inf is not a finite.*2 cell\(s\)"),
        ([1.0, np.inf], "real", "row 1: inf is not a finite"),
        (
            pd.Series([None, 1, "a", 2.5], dtype=object),
            None,
            r"'x' mixes types: 1 \(int\) in row 1 and 'a' \(str\) in row 2.*'categorical', which",
        ),
        (pd.Series([True, 2], dtype=object), None, r"True \(bool\) in row 0 and 2 \(int\)"),
        (pd.Series([1, "a"], dtype=object), "real", "mixes types"),
        (pd.Series([1j, 2j]), None, "has the type complex128.*'text'}, which leaves.*alone"),
        (pd.Series([[1], [2]]), None, r"type that is not known here: \[1\] \(list\) in row 0"),
        (
            pd.Series([pd.Timestamp("2020", tz="UTC"), None], dtype=object),
            None,
            "not known here with a time zone",
        ),
        (pd.Series([10**400, 1], dtype=object), None, "larger than any float64"),
        (pl.Series([[1], [2]]), "categorical", r"has the type List\(Int64\)"),
    ],
)
def test_data_that_contradict_are_named(values, declared, message):
    with pytest.raises(DataError, match=message):
        infer(values, declared)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("cuont", "the kind 'cuont' is not known.*Did you mean 'count'"),
        ("bounded", "needs two finite bounds"),
        (("bounded", 0), "received 0 and None"),
        (("bounded", 1, 0), "the first the smaller"),
        (("bounded", 1, 1), "the first the smaller"),
        (("bounded", 0, float("inf")), "two finite bounds"),
        (("bounded", 0, "1"), "two finite bounds"),
        (("bounded", 0, 1, 2), "more parts than 'bounded' takes"),
        (("count", 3), "more parts than 'count'"),
        (("ordinal", "abc"), "levels must be a list"),
        (("ordinal", 3), "levels must be a list"),
        (("ordinal", ["a"]), "needs two or more distinct levels"),
        (("ordinal", ["a", "a"]), "needs two or more distinct"),
        (("ordinal", ["a", None]), "strings, finite numbers or booleans"),
        (("ordinal", [1.0, float("nan")]), "finite numbers"),
        (("binary", ["a", "b", "c"]), "needs two distinct"),
        (("binary", ["a"]), "needs two distinct"),
        ({"kind": "ordinal", "level": ["a"]}, "unknown key 'level'.*Did you mean 'levels'"),
        ({"kind": "count", "low": 1}, "'count' has no low"),
        ({"kind": "bounded", "low": 0, "high": 1, "levels": [1, 2]}, "'bounded' has no levels"),
        ({"levels": ["a", "b"]}, "the kind None is not known"),
        (3, "must be a kind, such as"),
        ((), "must be a kind, such as"),
        ("ordinal", r"'x': the order of its values is not known.*\('ordinal', \['a', 'b'\]\)"),
    ],
)
def test_declarations_that_make_no_sense(declared, message):
    with pytest.raises(ParameterError, match=message):
        infer(["a", "b"], declared)


def test_an_order_must_be_known():
    with pytest.raises(ParameterError, match="the order of its values is not known"):
        infer(pd.Categorical(["b", "a", "c"]), "ordinal")
    dates = pd.to_datetime(["2020", "2021"])
    with pytest.raises(ParameterError, match="a column of dates cannot be categorical"):
        infer(dates, "categorical")


def test_columns_that_are_not_there_cannot_be_declared():
    frame = pd.DataFrame({"length": [1.5, 2.5], 3: [0.5, 1.5]})
    with pytest.raises(
        ParameterError, match=r"'lenght'.*Did you mean 'length'.*Columns: 'length', 3"
    ):
        Schema.infer(frame, {"lenght": "count"})
    with pytest.raises(ParameterError, match="has 4, which is no column"):
        Schema.infer(frame, {4: "count"})
    with pytest.raises(ParameterError, match="kinds must map"):
        Schema.infer(frame, ["count"])
    assert Schema.infer(frame, {3: "positive"}).columns[1].kind == "positive"
