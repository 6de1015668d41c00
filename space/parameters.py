"""Typed hyper-parameters and slots: what a component declares, and what the search space is assembled from.

A component is a frozen dataclass whose fields are made by the functions at the end of this module. The field's value
is what the component works with; its metadata is what the space works with. A `Slot` is a hyper-parameter whose value
is itself a component (or several) of another axis, and this is all that makes the space a conditional tree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Primitive = bool | int | float | str


class Trial(Protocol):
    """What the space asks for values: the part of an Optuna trial that it uses, and nothing else."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number in [low, high]."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number in [low, high]."""

    def suggest_categorical(self, name: str, choices: tuple[Primitive, ...]) -> Any:
        """Return one of the choices."""


@dataclass(frozen=True)
class Integer:
    """Whole numbers from `low` to `high`, both included; `log` says that ratios matter rather than differences."""

    low: int
    high: int
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"a whole number in [{self.low}, {self.high}]"

    @property
    def single(self) -> bool:
        """Whether only one value is left, so that nothing need be asked."""
        return self.low == self.high

    @property
    def only(self) -> int:
        """The value that is left when `single`."""
        return self.low

    def suggest(self, trial: Trial, name: str) -> int:
        """Ask the trial for a value."""
        return int(trial.suggest_int(name, self.low, self.high, log=self.log))


@dataclass(frozen=True)
class Real:
    """Numbers from `low` to `high`, both included, kept to `digits` significant digits."""

    low: float
    high: float
    log: bool = False
    digits: int = 3

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return self.low <= value <= self.high  # NaN and the infinities are in no range

    def __str__(self) -> str:
        return f"a number in [{self.low:g}, {self.high:g}]"

    @property
    def single(self) -> bool:
        """Whether only one value is left, so that nothing need be asked."""
        return self.low == self.high

    @property
    def only(self) -> float:
        """The value that is left when `single`."""
        return self.low

    def suggest(self, trial: Trial, name: str) -> float:
        """Ask the trial for a value and round it; rounding never leaves the range."""
        value = float(trial.suggest_float(name, self.low, self.high, log=self.log))
        return min(max(float(f"{value:.{self.digits}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choices:
    """One of a few named values; True, 1 and 1.0 are told apart."""

    values: tuple[Primitive, ...]

    def __contains__(self, value: object) -> bool:
        return any(type(value) is type(known) and value == known for known in self.values)

    def __str__(self) -> str:
        return "one of " + ", ".join(str(value) for value in self.values)

    @property
    def single(self) -> bool:
        """Whether only one value is left, so that nothing need be asked."""
        return len(self.values) == 1

    @property
    def only(self) -> Primitive:
        """The value that is left when `single`."""
        return self.values[0]

    def suggest(self, trial: Trial, name: str) -> Primitive:
        """Ask the trial for a value."""
        value: Primitive = trial.suggest_categorical(name, self.values)
        return value


Domain = Integer | Real | Choices


@dataclass(frozen=True)
class Slot:
    """A hyper-parameter whose value is a component of `axis`, or several.

    Attributes:
        axis: The axis whose components may stand here.
        shape: `one` exactly one; `optional` one or none; `chain` several in an order that matters; `bag` several whose
            order does not matter (kept sorted); `subset` each component of the axis at most once (kept sorted).
        low, high: How many, for `chain` and `bag`.
        default: The name that a genotype file may leave out; the component then has its own defaults.
        flows: Whether the kind of the data (clip, image, vector, …) passes through this slot. The flowing slots of a
            component are typed one after the other, from its `starts` to its `ends`.
    """

    axis: str
    shape: Literal["one", "optional", "chain", "bag", "subset"]
    low: int = 1
    high: int = 1
    default: str | None = None
    flows: bool = False

    @property
    def count(self) -> Integer:
        """How many components may stand here, as a domain."""
        return Integer(self.low, self.high)


@dataclass(frozen=True)
class Parameter:
    """What a field of a component declares.

    Attributes:
        domain: The legal values, or the slot.
        doc: One line for people.
        needs: What single values of a `Choices` need of the data, e.g. `{"given": {"given flow"}}`.
        when: Says from the values of the earlier fields whether this field is active; an inactive one holds None.
        sizes: Whether it has a say in which shapes the component can be built for. Its values may all be tried, alone
            and with those of others that have a say: they should be few.
    """

    domain: Domain | Slot
    doc: str = ""
    needs: Mapping[Primitive, frozenset[str]] = field(default_factory=dict)
    when: Callable[[Mapping[str, Any]], bool] | None = None
    sizes: bool = False


KEY = "mernas parameter"


def integer(low: int, high: int, *, default: int, log: bool = False, doc: str = "", sizes: bool = False) -> Any:
    """Declare a whole number in [low, high]; `sizes` as of `Parameter`.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Shift:
        ...     pixels: int = integer(1, 4, default=2, doc="largest shift, in pixels")
        >>> Shift().pixels
        2
    """
    return field(default=default, metadata={KEY: Parameter(Integer(low, high, log), doc, sizes=sizes)})


def real(low: float, high: float, *, default: float, log: bool = False, doc: str = "") -> Any:
    """Declare a number in [low, high], searched to three significant digits."""
    return field(default=default, metadata={KEY: Parameter(Real(low, high, log), doc)})


def choice(
    *values: Primitive,
    default: Primitive,
    doc: str = "",
    needs: Mapping[Primitive, set[str] | frozenset[str]] | None = None,
    sizes: bool = False,
) -> Any:
    """Declare one of a few values; `needs` says what a value needs of the data, `sizes` is as of `Parameter`."""
    wanted = {value: frozenset(names) for value, names in (needs or {}).items()}
    return field(default=default, metadata={KEY: Parameter(Choices(values), doc, wanted, sizes=sizes)})


def one(axis: str, *, default: str | None = None, flows: bool = False, doc: str = "") -> Any:
    """Declare a slot for exactly one component of `axis`; without a default, genotype files must name it."""
    return field(metadata={KEY: Parameter(Slot(axis, "one", default=default, flows=flows), doc)})


def optional(
    axis: str, *, flows: bool = False, doc: str = "", when: Callable[[Mapping[str, Any]], bool] | None = None
) -> Any:
    """Declare a slot for one component of `axis` or none."""
    return field(default=None, metadata={KEY: Parameter(Slot(axis, "optional", 0, 1, flows=flows), doc, when=when)})


def conditional(
    axis: str, when: Callable[[Mapping[str, Any]], bool], *, default: str | None = None, doc: str = ""
) -> Any:
    """Declare a slot for exactly one component of `axis` where `when` holds, and for none elsewhere."""
    return field(default=None, metadata={KEY: Parameter(Slot(axis, "one", default=default), doc, when=when)})


def chain(axis: str, low: int, high: int, *, flows: bool = False, doc: str = "") -> Any:
    """Declare a slot for `low` to `high` components of `axis` in an order that matters."""
    return field(metadata={KEY: Parameter(Slot(axis, "chain", low, high, flows=flows), doc)})


def bag(axis: str, low: int, high: int, *, doc: str = "") -> Any:
    """Declare a slot for `low` to `high` components of `axis` in any order."""
    return field(metadata={KEY: Parameter(Slot(axis, "bag", low, high), doc)})


def subset(axis: str, *, doc: str = "") -> Any:
    """Declare a slot for any of the components of `axis`, each at most once."""
    return field(default=(), metadata={KEY: Parameter(Slot(axis, "subset", 0, 99), doc)})
