"""Parameter validation of scikit-learn, imported in this one place.

The names with an underscore are private to scikit-learn, yet third-party packages
rely on them; should they move, only this file changes.
"""

from sklearn.base import _fit_context as validates_parameters
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
    validate_params,
)

__all__ = [
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "validate_parameter_constraints",
    "validate_params",
    "validates_parameters",
]
