"""Whole numbers that a client wrote as floats (`100.0`): many languages have but one kind of number.

JSON knows one kind as well, so `100.0` is 100 wherever a body's field is an integer. Nothing else is touched.
"""

from collections.abc import Mapping
from functools import cache

from msgspec import inspect

from events.openai import bodies


def with_whole_numbers(kind: type[bodies.Body], body: Mapping[str, object]) -> dict[str, object]:
    """The body with whole floats as integers in the integer fields of `kind`, and in its lists of tokens."""
    return {
        name: _whole(value) if name in _integer_fields(kind) else value
        for name, value in body.items()
    }


def _whole(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list) and any(isinstance(item, float | list) for item in value):
        return [_whole(item) for item in value]
    return value


@cache
def _integer_fields(kind: type[bodies.Body]) -> frozenset[str]:
    """Fields that hold integers, or lists of them, and never a float."""
    struct = inspect.type_info(kind)
    if not isinstance(struct, inspect.StructType):
        raise TypeError(kind)
    kinds = {field.encode_name: _leaves(field.type) for field in struct.fields}
    return frozenset(
        name
        for name, leaves in kinds.items()
        if inspect.IntType in leaves and inspect.FloatType not in leaves
    )


def _leaves(of: inspect.Type) -> set[type[inspect.Type]]:
    """The kinds of value that a type may be, those within lists included."""
    if isinstance(of, inspect.Metadata):
        return _leaves(of.type)
    if isinstance(of, inspect.UnionType):
        return set().union(*(_leaves(one) for one in of.types))
    if isinstance(of, inspect.ListType):
        return _leaves(of.item_type)
    return {type(of)}
