import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_asd._utils.text import one_form, printable

names = st.text(
    st.characters() | st.sampled_from("\n\r\x1b\u202e\u2028\udcff\x85\u3000"),
    max_size=12,
)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("pump_3/monday 1.wav", "pump_3/monday 1.wav"),
        ("Gerät 泵 №3 😀", "Gerät 泵 №3 😀"),
        ("a\u3000b\xa0c", "a\u3000b\xa0c"),  # spaces
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x1b[2J\x07\x00\x7f", r"\x1b[2J\x07\x00\x7f"),
        ("\x85\u2028\u2029\x0b\x0c\x1c", r"\x85\u2028\u2029\x0b\x0c\x1c"),  # breaks
        ("\u202egnp.wav\u2066", r"\u202egnp.wav\u2066"),  # written backwards
        ("\udcff\ud800", r"\udcff\ud800"),
        ("\ufeff\u200b\U000e0041", r"\ufeff\u200b\U000e0041"),  # invisible
        ("a\\nb", "a\\nb"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(name, shown):
    assert printable(name) == shown


@given(names)
def test_whatever_a_name_holds_it_is_shown_on_one_line(name):
    shown = printable(name)
    assert len(shown.splitlines()) <= 1
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert printable(shown) == shown
    shown.encode()


@given(names)
def test_both_forms_of_unicode_are_one_name(name):
    assert one_form(unicodedata.normalize("NFD", name)) == one_form(name)
    assert one_form(one_form(name)) == one_form(name)
