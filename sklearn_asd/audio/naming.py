"""What the names of folders and files say: machines, dates, labels and splits."""

from __future__ import annotations

import datetime
import os
import re
from pathlib import PurePath

from sklearn_asd._utils.messages import did_you_mean
from sklearn_asd._utils.text import one_form

__all__ = [
    "AUDIO_SUFFIXES",
    "NamePattern",
    "is_date",
    "names_fault",
    "read_folder_name",
    "read_time",
    "strip_date",
]

# What libsndfile reads, by the endings in use; ".raw" says nothing of its contents.
AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".wave", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"),
    *(".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".bwf", ".voc"),
)

_NORMAL = "normal ok good healthy pass passed gut i.o. i.o bon 正常 良 良品"
_ANOMALOUS = (
    "anomaly anomalies anomalous abnormal ng nok bad broken defect defective fault "
    "faults faulty fail failed failure damaged not_ok fehler fehlerhaft defekt kaputt "
    "schlecht n.i.o. n.i.o nio anormal défaut defaut défectueux mauvais panne 異常 "
    "不良 不良品 故障"
)
_LABELS = {**dict.fromkeys(_NORMAL.split(), 1), **dict.fromkeys(_ANOMALOUS.split(), -1)}

_SPLITS = {
    **dict.fromkeys(["train", "training"], "train"),
    **dict.fromkeys(["test", "testing", "eval", "evaluation"], "test"),
    **dict.fromkeys(["val", "valid", "validation"], "validation"),
    "supplemental": "supplemental",
}
# Folders of 2021 are called "source_test"; "crash_test" may be a machine.
_SPLIT_FOLDER = re.compile(rf"(?:source_|target_)?({'|'.join(_SPLITS)})")

_MONTH = "(?:0?[1-9]|1[0-2])"
_DAY = "(?:0?[1-9]|[12][0-9]|3[01])"
_YEAR = "(?:19|20)[0-9]{2}"
_MONTH_NAME = (
    "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec|january|february|march|"
    "april|june|july|august|september|october|november|december|januar|februar|märz|"
    "mai|juni|juli|oktober|dezember)"
)
# Names that stand alone are written in full: "mon" and "sun" may be machines.
_ALONE = (
    "monday|tuesday|wednesday|thursday|friday|saturday|sunday|montag|dienstag|mittwoch|"
    "donnerstag|freitag|samstag|sonntag|january|february|april|june|july|august|"
    "september|october|november|december|januar|februar|juni|juli|oktober|dezember"
)
_TIME = "(?:[01][0-9]|2[0-3])(?:[-_:.h]?[0-5][0-9])(?:[-_:.m]?[0-5][0-9]s?)?"
# "08-30" may be a machine.
_CLEAR_TIME = (
    "(?:[01][0-9]|2[0-3])(?:[:h][0-5][0-9](?:[:m][0-5][0-9]s?)?|-[0-5][0-9]-[0-5][0-9])"
)
_PERIOD = "(?:kw|week|woche|day|tag)[-_ ]?[0-9]{1,3}"
_DATE = "|".join(
    [
        rf"{_YEAR}(?P<a>[-_.])(?:0[1-9]|1[0-2])(?P=a)(?:0[1-9]|[12][0-9]|3[01])",
        rf"{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])",
        rf"{_DAY}(?P<b>[-_.])(?:{_MONTH}|{_MONTH_NAME})(?P=b){_YEAR}",
        rf"{_MONTH_NAME}[-_. ]?{_DAY}(?:[-_., ]+{_YEAR})?",
        rf"{_YEAR}[-_.](?:{_MONTH}|{_MONTH_NAME})",
        rf"(?:{_MONTH}|{_MONTH_NAME})[-_. ]{_YEAR}",
        rf"{_YEAR}-?[wW][0-5][0-9]",
    ]
)
_STAMP = rf"(?:{_DATE})(?:[-_T ]+(?:{_TIME}))?Z?"


def _anonymous(pattern: str, prefix: str) -> str:
    """Give the groups of a pattern names of their own, so that it may occur twice."""
    return re.sub(r"\(\?P([<=])([ab])", rf"(?P\1{prefix}\2", pattern)


_IS_DATE = re.compile(rf"{_STAMP}|{_CLEAR_TIME}|{_PERIOD}|{_ALONE}", re.IGNORECASE)
_BEGINS_WITH_DATE = re.compile(rf"(?:{_STAMP})(?![0-9A-Za-z])[-_. ]*", re.IGNORECASE)
_ENDS_WITH_DATE = re.compile(rf"[-_. ]+(?:{_STAMP})(?:[-_. ]+[0-9]+)?$", re.IGNORECASE)

# Only dates that begin with the year are read: 01.05.2024 is in May, or in January.
_DAY_AND_TIME = re.compile(
    rf"(?<![0-9])({_YEAR})([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12][0-9]|3[01])"
    rf"(?:[-_T ]*({_TIME}))?(?![0-9])"
)
_TIME_ALONE = re.compile(rf"(?<![0-9])({_TIME})(?![0-9])")


def is_date(name: str) -> bool:
    """Tell whether a name is a date or a time, and so no machine.

    Parameters
    ----------
    name : str
        Of a folder.

    Returns
    -------
    is_date : bool
        True for a date, with a time or without, a month, a numbered week or day, a day
        of the week, or a time with clear separators. A bare year may be a machine.

    Examples
    --------
    >>> from sklearn_asd.audio.naming import is_date
    >>> [is_date(name) for name in ["2024-05-01", "20240501_0800", "Monday", "pump_1"]]
    [True, True, True, False]
    """
    return _IS_DATE.fullmatch(name) is not None


def strip_date(stem: str) -> str:
    """Take a date at the beginning or the end off a file's name.

    Parameters
    ----------
    stem : str
        The name without its suffix.

    Returns
    -------
    rest : str
        The same if there is no date.

    Examples
    --------
    >>> from sklearn_asd.audio.naming import strip_date
    >>> strip_date("car_B1_2024-05-01_0800")
    'car_B1'
    """
    rest = _ENDS_WITH_DATE.sub("", stem)
    return rest if rest != stem else _BEGINS_WITH_DATE.sub("", stem, count=1)


def read_time(path: str | os.PathLike[str]) -> datetime.datetime | None:
    """Read when a recording was made from its name, or from the names of its folders.

    Parameters
    ----------
    path : str or path-like
        The recording.

    Returns
    -------
    time : datetime or None
        None if no name holds a date that begins with the year. The time of day is that
        after the date, or of a file in a folder with a date, that in the file's name;
        midnight if there is none.

    Examples
    --------
    >>> from sklearn_asd.audio.naming import read_time
    >>> print(read_time("pump_1/20240501T081530.wav"))
    2024-05-01 08:15:30
    >>> print(read_time("2024-05-01/pump_1_0800.wav"))
    2024-05-01 08:00:00
    """
    plain = PurePath(path)
    names = [plain.stem, *(folder.name for folder in plain.parents)]
    for place, name in enumerate(names):
        for found in _DAY_AND_TIME.finditer(name):
            year, _, month, day, time = found.groups()
            alone = _TIME_ALONE.search(names[0]) if place and not time else None
            digits = re.sub("[^0-9]", "", time or (alone[1] if alone else ""))
            try:
                return datetime.datetime.strptime(
                    f"{year}{month}{day}{digits:0<6}", "%Y%m%d%H%M%S"
                )
            except ValueError:  # 30 February
                continue
    return None


def read_folder_name(name: str) -> dict[str, str | int]:
    """Read the split or the label in a folder's name.

    Parameters
    ----------
    name : str
        In upper or lower case.

    Returns
    -------
    facts : dict
        `label`, +1 normal or -1 anomalous; or `split`: "train", "test", "validation" or
        "supplemental". Empty if the name is something else.
    """
    name = name.lower()
    if name in _LABELS:
        return {"label": _LABELS[name]}
    match = _SPLIT_FOLDER.fullmatch(name)
    return {"split": _SPLITS[match[1]]} if match else {}


def names_fault(name: str) -> bool:
    """Tell whether a name holds a word for what is wrong.

    Parameters
    ----------
    name : str
        Of a folder that is taken for a machine, such as "pump_3_broken".

    Returns
    -------
    names_fault : bool
        Whether one of its words is used for anomalous recordings.
    """
    words = re.split(r"[\W_]+", name.lower())
    return any(_LABELS.get(word) == -1 for word in words)


# What a field of a pattern takes. A date may be followed by a time.
_FIELDS = {"date": _STAMP, "time": _TIME, "number": "[0-9]+"}
_COLUMNS = {"machine": "machine_id", "type": "machine_type"}
# A field that takes anything, or *.
_FREE = re.compile(rf"\{{(?!(?:{'|'.join(_FIELDS)})\}})[^{{}}]*\}}|\*")
_MOST_FREE = 3
_RESERVED = {"path", "audio", "label", "split", "domain", "start", "stop"} | set(
    _COLUMNS.values()
)


class NamePattern:
    """Where the machine stands in the path of a recording.

    Parameters
    ----------
    pattern : str
        The end of the paths, without their suffix, with fields in braces, such as
        "{date}/{machine}_{time}" or "{type}/{machine}/*". `machine` is needed, `type`
        is the machine's type, and other fields become columns. `date`, `time` and
        `number` take dates, times of the day and digits only; all others, and "*", take
        anything but a slash, the first as much as it can. There may be three of these
        in one name. A suffix such as ".flac" at the end does no harm.

    Raises
    ------
    ValueError
        If the pattern lacks the machine, has a field twice, or one of an unknown form.

    Examples
    --------
    >>> from sklearn_asd.audio.naming import NamePattern
    >>> NamePattern("{machine}_{date}").read("rec/car_B1_2024-05-01_0800.flac")
    {'machine_id': 'car_B1', 'date': '2024-05-01_0800'}
    >>> NamePattern("{machine}_{date}").read("rec/monday.flac") is None
    True
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = one_form(pattern)
        parts = re.split(r"(\{[^{}]*\}|\*)", _without_suffix(self.pattern))
        fields = [part[1:-1] for part in parts[1::2] if part != "*"]
        _check_fields(self.pattern, fields, parts[::2])
        self._expression, self._shortest = (
            _compile(parts, few) for few in (False, True)
        )

    def __repr__(self) -> str:
        return f"NamePattern({self.pattern!r})"

    def read(self, path: str | os.PathLike[str]) -> dict[str, str] | None:
        """Read the fields in a path.

        Parameters
        ----------
        path : str or path-like
            Of a recording.

        Returns
        -------
        facts : dict of str to str or None
            `machine_id`, `machine_type` if the pattern has it, and the other fields;
            None if the path does not fit.
        """
        return _read(self._expression, path)

    def read_shortest(self, path: str | os.PathLike[str]) -> str | None:
        """Read the machine as if fields and "*" took as little as they can.

        Parameters
        ----------
        path : str or path-like
            Of a recording.

        Returns
        -------
        machine_id : str or None
            Another one than that of `read` where the path can be read in two ways; None
            if the path does not fit.

        Examples
        --------
        >>> from sklearn_asd.audio.naming import NamePattern
        >>> pattern = NamePattern("{machine}_{place}")
        >>> pattern.read("pump_1_hall.wav"), pattern.read_shortest("pump_1_hall.wav")
        ({'machine_id': 'pump_1', 'place': 'hall'}, 'pump')
        """
        facts = _read(self._shortest, path)
        return None if facts is None else facts["machine_id"]


def _without_suffix(pattern: str) -> str:
    stem, dot, suffix = pattern.rpartition(".")
    return stem if dot + suffix.lower() in AUDIO_SUFFIXES else pattern


def _compile(parts: list[str], few: bool) -> re.Pattern[str]:
    """Make an expression of literals and fields, which take much or little."""
    expression = "".join(
        _as_expression(part, number, "?" * few) if number % 2 else re.escape(part)
        for number, part in enumerate(parts)
    )
    return re.compile(rf"(?:.*/)?{expression}", re.IGNORECASE)


def _read(
    expression: re.Pattern[str], path: str | os.PathLike[str]
) -> dict[str, str] | None:
    """Read the fields in a path; None if it does not fit."""
    text = one_form(PurePath(path).with_suffix("").as_posix())
    found = expression.fullmatch(text)
    if found is None:
        return None
    facts = {
        _COLUMNS.get(name[2:], name[2:]): one_form(value)
        for name, value in found.groupdict().items()
        if name.startswith("f_")
    }
    return facts if all(facts.values()) else None


def _as_expression(part: str, number: int, few: str) -> str:
    if part == "*":
        return f"[^/]*{few}"
    field = part[1:-1]
    inner = _FIELDS.get(field, f"[^/]+{few}")
    return f"(?P<f_{field}>{_anonymous(inner, f'_{number}')})"


def _check_fields(pattern: str, fields: list[str], literals: list[str]) -> None:
    """Refuse a pattern that cannot say where the machine stands."""
    problem = _find_problem(fields)
    # Each would try all places in a name, so their number is the power of its length.
    free = [len(_FREE.findall(name)) for name in pattern.split("/")]
    if max(free) > _MOST_FREE:
        problem = f"has more than {_MOST_FREE} fields or * in one name"
    if any(mark in literal for literal in literals for mark in "{}"):
        problem = "has a brace without its other half"
    if problem:
        raise ValueError(
            f"the pattern {pattern!r:.200} {problem}, as in "
            '"{date}/{machine}/*" or "{machine}_{date}"'
        )


def _find_problem(fields: list[str]) -> str:
    """Say what is wrong with fields; "" if nothing is."""
    for name in fields:
        if not re.fullmatch(r"[a-z]\w*", name):
            return (
                f"has a field {name!r:.60}, and names are of small letters and digits"
            )
        if fields.count(name) > 1:
            return f"has the field {name!r} twice"
        if name in _RESERVED:
            hint = {"machine_id": "machine", "machine_type": "type"}.get(name)
            instead = f"write {{{hint}}}" if hint else "choose another name"
            return f"has the field {name!r}, which is a column already: {instead}"
    if "machine" in fields:
        return ""
    unknown = [name for name in fields if name not in _FIELDS]
    meant = "".join(did_you_mean(name, ["machine"]) for name in unknown[:1])
    return f"has no field {{machine}}:{meant} say where the machine stands"
