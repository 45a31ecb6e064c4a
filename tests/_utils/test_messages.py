import numpy as np
import pytest

from sklearn_asd._utils.messages import (
    abbreviate,
    check_choice,
    count,
    cut,
    did_you_mean,
    shorten,
)


def test_many_names_are_abbreviated():
    assert abbreviate(["a", "b"]) == "a, b"
    assert abbreviate(np.arange(8)) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert abbreviate(list("abcd"), limit=2) == "a, b and 2 more"


def test_a_choice_is_spelt_exactly():
    check_choice("system", "iv", ["iii", "iv"])
    message = "system 'IV' is unknown: did you mean 'iv'\\? choose from iii, iv"
    with pytest.raises(ValueError, match=message):
        check_choice("system", "IV", ["iii", "iv"])


def test_values_and_names_are_cut():
    assert shorten([1, "a"]) == "[1, 'a']"
    assert shorten("a" * 198) == f"'{'a' * 198}'"
    assert shorten("a" * 999) == f"'{'a' * 199}... (1,001 characters)"
    assert cut("a" * 201) == "a" * 200 + "... (201 characters)"
    assert abbreviate(["a" * 101, "b"]) == "a" * 100 + "... (101 characters), b"
    with pytest.raises(ValueError, match=r"system 'IVIV.*\(100,002 characters\) is un"):
        check_choice("system", "IV" * 50_000, ["iii", "iv"])


def test_the_closest_spelling_is_suggested():
    assert did_you_mean("flip-time", ["rotate", "flip_time"]) == (
        " did you mean 'flip_time'?"
    )
    assert did_you_mean(3, ["rotate"]) == ""


def test_things_are_counted_in_singular_and_plural():
    assert [count(n, "clip") for n in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]
