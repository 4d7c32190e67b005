"""Values that break careless code: of every type, of absurd size, and objects whose own methods raise or lie."""

import decimal
import fractions
import math
from typing import Any, NoReturn

import numpy as np

LARGE = 100 << 20  # characters


def _raise(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("a nasty value was asked for something")


class Raises:
    """Raises whatever it is asked."""

    __eq__ = __hash__ = __len__ = __index__ = __int__ = __float__ = __bool__ = __iter__ = __getitem__ = _raise
    __contains__ = __repr__ = __str__ = __lt__ = __gt__ = __le__ = __ge__ = __buffer__ = __bytes__ = _raise


class FalseClass:
    """Raises when `isinstance` asks for its class."""

    __class__ = property(_raise)  # type: ignore[assignment]


class Integer(int):
    __lt__ = __gt__ = __le__ = __ge__ = __eq__ = __index__ = __int__ = __hash__ = __bool__ = __repr__ = _raise


class Text(str):
    __slots__ = ()
    __eq__ = __hash__ = __len__ = __iter__ = __getitem__ = __contains__ = __repr__ = __str__ = encode = _raise


class Mapping(dict[Any, Any]):
    items = keys = values = get = __iter__ = __len__ = __getitem__ = __contains__ = __repr__ = _raise


class Endless(dict[Any, Any]):
    """Has an item more whenever one was taken."""

    def items(self) -> Any:
        while True:
            yield "rax", 1

    def __iter__(self) -> Any:
        while True:
            yield "rax"

    keys = __iter__


class Sequence(list[Any]):
    __iter__ = __len__ = __getitem__ = __contains__ = __repr__ = _raise


class Key:
    """As a key it looks like `name`, until it is compared."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __hash__(self) -> int:
        return hash(self.name)

    __eq__ = __repr__ = _raise


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _own() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def values() -> list[Any]:
    """The table. Strings, lists and bytes of LARGE size are made once, by the caller's process."""
    return [
        *(None, True, False, Ellipsis, NotImplemented, object(), int, len, lambda: 0),
        *(-1, 1 << 32, 1 << 63, 1 << 64, -(1 << 63), 1 << 100_000, -(1 << 100_000)),
        *(0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, 1j, decimal.Decimal("NaN"), fractions.Fraction(1, 3)),
        *(b"", b"\0" * 16, bytearray(b"ab"), memoryview(b"ab"), range(3), iter([]), (i for i in ())),
        *("", "\0", "rw\0", "\ud800", "\U0001f600", "0" * 8193, "rwxrwx", "a" * LARGE, b"a" * LARGE),
        *([], [1, [2]], [0] * 100_000, (), (1,), set(), frozenset(), _nested(10_000), _own(), {}, {"a": {}}, {1: 1}),
        *(np.int64(3), np.float64("nan"), np.zeros(3), np.zeros((2, 2), np.uint64), np.str_("rw"), np.array("x")),
        *(Raises(), FalseClass(), Integer(3), Text("rw"), Text("create_vm"), Mapping(a=1), Endless(), Sequence([1])),
        *({Key("rax"): 1}, {"rax": Integer(1)}, {"rax": Raises()}, {"rax": 1 << 70}, {Text("x").lower(): Raises()}),
        *(
            [Raises()],
            [FalseClass()],
            [Integer(3)],
            [Text("any")],
            {"step": Raises()},
            {"l1": Raises()},
            {"l1": Mapping()},
        ),
    ]
