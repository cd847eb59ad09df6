"""Whether JSON is what a type says it is, so that a channel need not fear what a network sends.

Knows `str`, `int`, `float`, `bool`, `None`, `Any`, `list[...]`, `dict[str, ...]`, unions, `Literal` and `TypedDict`.
Fields that a `TypedDict` does not name are let through.
"""

from __future__ import annotations

import types
from typing import Any, Literal, NotRequired, Required, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from .errors import BadJson

_fields: dict[Any, list[tuple[str, Any, bool]]] = {}


def fit(value: Any, shape: Any) -> Any:
    """The value, if it fits; raises `BadJson` otherwise."""
    where = _misfit(value, shape, "it")
    if where is not None:
        raise BadJson(f"the network sent something that is not what it should be: {where}")
    return value


def _misfit(value: Any, shape: Any, path: str) -> str | None:
    if shape is Any:
        return None
    if shape is None or shape is type(None):
        return None if value is None else f"{path} is not null"
    if shape is bool or shape is str:
        return None if isinstance(value, shape) else f"{path} is not a {shape.__name__}"
    if shape is int:
        fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        return None if fits else f"{path} is not an int"
    if shape is float:
        return None if isinstance(value, int | float) and not isinstance(value, bool) else f"{path} is not a number"
    if is_typeddict(shape):
        return _misfit_fields(value, shape, path)
    origin, inner = get_origin(shape), get_args(shape)
    if origin is Literal:
        return None if any(type(value) is type(word) and value == word for word in inner) else f"{path} is not one of {inner}"
    if origin is Union or origin is types.UnionType:
        misfits = [_misfit(value, one, path) for one in inner]
        return None if None in misfits else misfits[0]
    if shape is list or origin is list:
        if not isinstance(value, list):
            return f"{path} is not a list"
        each = inner[0] if inner else Any
        return next((w for i, one in enumerate(value) if (w := _misfit(one, each, f"{path}[{i}]"))), None)
    if shape is dict or origin is dict:
        if not isinstance(value, dict):
            return f"{path} is not an object"
        each = inner[1] if inner else Any
        return next((w for key, one in value.items() if (w := _misfit(one, each, f"{path}.{key}"))), None)
    raise TypeError(f"a shape cannot say {shape!r}")


def _misfit_fields(value: Any, shape: Any, path: str) -> str | None:
    if not isinstance(value, dict):
        return f"{path} is not an object"
    for name, inner, required in _fields_of(shape):
        if name in value:
            if misfit := _misfit(value[name], inner, f"{path}.{name}"):
                return misfit
        elif required:
            return f"{path} has no {name}"
    return None


def _fields_of(shape: Any) -> list[tuple[str, Any, bool]]:
    if shape not in _fields:
        fields = []
        for name, hint in get_type_hints(shape, include_extras=True).items():
            origin = get_origin(hint)
            required = origin is Required or (origin is not NotRequired and shape.__total__)
            fields.append((name, get_args(hint)[0] if origin in (Required, NotRequired) else hint, required))
        _fields[shape] = fields
    return _fields[shape]


class _Warm(TypedDict):
    field: str


# Makes `typing` load what it loads late: in a component there is nothing to load from once it runs.
_fields_of(_Warm)
