import numpy as np
import pytest

from sklearn_asd._utils.messages import abbreviate, check_choice, count, did_you_mean


def test_many_names_are_abbreviated():
    assert abbreviate(["a", "b"]) == "a, b"
    assert abbreviate(np.arange(8)) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert abbreviate(list("abcd"), limit=2) == "a, b and 2 more"


def test_a_choice_is_spelt_exactly():
    check_choice("system", "iv", ["iii", "iv"])
    message = "system 'IV' is unknown: did you mean 'iv'\\? choose from iii, iv"
    with pytest.raises(ValueError, match=message):
        check_choice("system", "IV", ["iii", "iv"])


def test_the_closest_spelling_is_suggested():
    assert did_you_mean("flip-time", ["rotate", "flip_time"]) == (
        " did you mean 'flip_time'?"
    )
    assert did_you_mean(3, ["rotate"]) == ""


def test_things_are_counted_in_singular_and_plural():
    assert [count(n, "clip") for n in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]
