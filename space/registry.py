"""The registry of components: one per process, filled by the decorator that every component bears."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mernas.space.errors import Problem, SpaceError, UnknownNameError, nearest
from mernas.space.parameters import KEY, Choices, Integer, Parameter, Real, Slot
from mernas.space.taxonomy import AXES, CAPABILITIES, FLOWING, SIZED

Component = TypeVar("Component")


@dataclass(frozen=True)
class Declaration:
    """What a component says of itself.

    Attributes:
        axis, name: Where it belongs and what genotypes call it.
        version: Raised whenever the same values would compute something else; genotypes remember it.
        section: Section of the survey, `-` for what the survey does not have.
        source: The paper or book it comes from.
        factory: The frozen dataclass itself.
        parameters: Its hyper-parameters in the order of its fields.
        needs: Capabilities without which it cannot stand anywhere.
        provides: Capabilities that it gives to the later parts of the pipeline wherever it stands; what depends on its
            values or on the data, an input says by its own `provides`.
        requires: Python modules that must be installed, each with what pip is asked for.
        maps: Which kind it makes of which kind, for axes through which data flows.
        starts, ends: For a record with flowing slots: the kind that enters the first and the kind that leaves the last.
        summary: First line of its docstring.
    """

    axis: str
    name: str
    version: int
    section: str
    source: str
    factory: type
    parameters: Mapping[str, Parameter]
    needs: frozenset[str] = frozenset()
    provides: frozenset[str] = frozenset()
    requires: Mapping[str, str] = field(default_factory=dict)
    maps: Mapping[str, str] = field(default_factory=dict)
    starts: str | None = None
    ends: str | None = None
    summary: str = ""

    @property
    def title(self) -> str:
        """How messages name it, e.g. `block "convolution"`."""
        return f'{self.axis} "{self.name}"'

    @property
    def missing(self) -> tuple[str, ...]:
        """What must be installed before it can work, as pip is asked for it; sorted."""
        absent = {wanted for module, wanted in self.requires.items() if not _installed(module)}
        return tuple(sorted(absent))

    def default(self, parameter: str) -> Any:
        """Return the default of a hyper-parameter, or `dataclasses.MISSING`."""
        for item in dataclasses.fields(self.factory):
            if item.name == parameter:
                return item.default
        raise KeyError(parameter)


@functools.cache
def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


class Registry:
    """Declarations by axis and name; refuses duplicates, answers unknown names with the nearest known ones."""

    def __init__(self) -> None:
        self._declarations: dict[str, dict[str, Declaration]] = {axis: {} for axis in AXES}
        self._source: Callable[[], object] | None = None
        self._lock = threading.RLock()
        self._filling = False
        self._filled: set[tuple[str, str]] = set()  # what the source has registered by now
        self._left_over: set[tuple[str, str]] = set()  # of a source that failed: it may register them once more

    def fill_from(self, source: Callable[[], object]) -> None:
        """Name what registers the components when the registry is first asked for one.

        Importing every component imports torch, which takes seconds; who only counts, proposes and records needs none.

        Args:
            source: Called once, before the first answer; whoever is named last, if several were before it.

        Example:
            >>> registry = Registry()
            >>> registry.fill_from(lambda: print("now"))
            >>> registry.names("block")
            now
            ()
        """
        self._source = source

    def fill(self) -> None:
        """Register at once what would be registered before the first answer; nothing if that is done."""
        if self._source is None:
            return
        with self._lock:  # another thread waits; a component that asks while it is registered gets what is there
            if self._source is not None and not self._filling:
                self._filling = True
                self._filled.clear()
                try:
                    self._source()
                    self._source = None
                    self._left_over.clear()
                except BaseException:  # the next question tells the same
                    # Not taken away: a module that was imported whole is not run, and registers nothing, once more.
                    self._left_over |= self._filled
                    raise
                finally:
                    self._filling = False

    def add(self, declaration: Declaration) -> None:
        """Add a declaration.

        Raises:
            SpaceError: If the axis is unknown, the name is taken, or the declaration contradicts itself.
        """
        problems = _faults(declaration)
        key = (declaration.axis, declaration.name)
        taken = self._declarations.get(declaration.axis, {}).get(declaration.name)
        if taken is not None and not (key in self._left_over and _same_place(taken.factory, declaration.factory)):
            where = f"{taken.factory.__module__}.{taken.factory.__qualname__}"
            problems.append(Problem(declaration.title, "is registered already", where, "choose another name"))
        if problems:
            raise SpaceError(problems)
        self._declarations[declaration.axis][declaration.name] = declaration
        self._left_over.discard(key)
        if self._filling:
            self._filled.add(key)

    def remove(self, axis: str, name: str) -> None:
        """Forget a component; for tests that register one of their own."""
        self.get(axis, name)
        del self._declarations[axis][name]

    def get(self, axis: str, name: str) -> Declaration:
        """Return a declaration.

        Raises:
            UnknownNameError: If there is none, with the nearest known names.
        """
        self.fill()
        if axis not in self._declarations:
            raise UnknownNameError(Problem(f'axis "{axis}"', "is not known", "", nearest(axis, AXES)))
        known = self._declarations[axis]
        if name not in known:
            raise UnknownNameError(Problem(f'{axis} "{name}"', "is not known", "", nearest(name, known)))
        return known[name]

    def names(self, axis: str) -> tuple[str, ...]:
        """Return the names on an axis, sorted."""
        self.fill()
        return tuple(sorted(self._declarations[axis]))

    def __iter__(self) -> Iterator[Declaration]:
        for axis in AXES:
            for name in self.names(axis):
                yield self._declarations[axis][name]


REGISTRY = Registry()


def register(
    axis: str,
    name: str,
    *,
    version: int = 1,
    section: str | None = None,
    source: str = "",
    needs: set[str] | frozenset[str] = frozenset(),
    provides: set[str] | frozenset[str] = frozenset(),
    requires: Mapping[str, str] | None = None,
    maps: Mapping[str, str] | None = None,
    starts: str | None = None,
    ends: str | None = None,
    registry: Registry = REGISTRY,
) -> Callable[[type[Component]], type[Component]]:
    """Register a frozen dataclass as a component; the class itself is returned unchanged.

    Args:
        axis: One of `taxonomy.AXES`.
        name: What genotypes call it.
        version: See `Declaration.version`.
        section: Section of the survey; by default that of the axis.
        source: The paper it comes from.
        needs: Capabilities it cannot do without.
        provides: Capabilities it gives to the later parts of the pipeline.
        requires: Python modules that only it imports, each with what pip is asked for, e.g.
            `{"skimage": "mernas[tvl1]"}`. Where one is not installed, the component is unavailable.
        maps: Which kind it makes of which kind.
        starts: For a record, the kind that enters its first flowing slot.
        ends: For a record, the kind that leaves its last flowing slot.
        registry: Where to; another one than the default only in tests.

    Raises:
        SpaceError: If the declaration is faulty or the name is taken.
    """

    def decorate(factory: type[Component]) -> type[Component]:
        if not dataclasses.is_dataclass(factory):
            rule = "must be a frozen dataclass"
            raise SpaceError(Problem(f'{axis} "{name}"', rule, factory.__qualname__, "decorate it with @dataclass"))
        parameters = {item.name: item.metadata[KEY] for item in dataclasses.fields(factory) if KEY in item.metadata}
        registry.add(
            Declaration(
                axis=axis,
                name=name,
                version=version,
                section=section if section is not None else (AXES[axis].section if axis in AXES else ""),
                source=source,
                factory=factory,
                parameters=parameters,
                needs=frozenset(needs),
                provides=frozenset(provides),
                requires=dict(requires or {}),
                maps=dict(maps or {}),
                starts=starts,
                ends=ends,
                summary=(factory.__doc__ or "").strip().partition("\n")[0],
            )
        )
        return factory

    return decorate


def _same_place(one: type, other: type) -> bool:
    """Whether two classes are written in one place, so that one is the other of a module that was run once more."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _faults(declaration: Declaration) -> list[Problem | str]:
    """Everything that is wrong with a declaration taken by itself."""
    title = declaration.title
    problems: list[Problem | str] = []
    if declaration.axis not in AXES:
        problems.append(Problem(f'axis "{declaration.axis}"', "is not known", "", nearest(declaration.axis, AXES)))
    if "." in declaration.name or "/" in declaration.name or declaration.name == "none":
        problems.append(Problem(title, 'a name has no "." or "/" and is not "none"'))
    if "version" in declaration.parameters:
        problems.append(Problem(title, 'no hyper-parameter may be called "version"'))
    if declaration.axis in FLOWING and not declaration.maps:
        problems.append(Problem(title, "must say which kind it maps to which", "no maps", "give maps={KIND: KIND}"))
    wanted = set(declaration.needs | declaration.provides)
    for parameter in declaration.parameters.values():
        for capabilities in parameter.needs.values():
            wanted |= capabilities
    for name, parameter in declaration.parameters.items():
        subject = f"{title}, {name}"
        domain = parameter.domain
        if isinstance(domain, (Integer, Real)):
            if domain.low > domain.high or (domain.log and domain.low <= 0):
                problems.append(Problem(subject, "needs low <= high, and low > 0 on a log scale", str(domain)))
        elif isinstance(domain, Choices):
            if not domain.values:
                problems.append(Problem(subject, "needs at least one choice"))
        elif domain.axis not in AXES:
            problems.append(Problem(f'{subject}, axis "{domain.axis}"', "is not known", "", nearest(domain.axis, AXES)))
        if parameter.sizes and declaration.axis not in SIZED:
            remedy = f"leave `sizes` out; it is for {', '.join(sorted(SIZED))}"
            problems.append(Problem(subject, "is on an axis that is built for no shape", declaration.axis, remedy))
        if not isinstance(domain, Slot) and declaration.default(name) not in domain:
            problems.append(Problem(subject, f"the default must be {domain}", repr(declaration.default(name))))
    problems += [
        Problem(f'{title}, capability "{capability}"', "is not known", "", nearest(capability, CAPABILITIES))
        for capability in sorted(wanted - set(CAPABILITIES))
    ]
    return problems
