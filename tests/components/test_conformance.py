"""Every component of mernas obeys what is asked of those of third parties; and the suite catches what does not."""

from collections.abc import Callable

import pytest

import mernas.components  # noqa: F401  # registers every component
from mernas.components.testing import checks_for
from mernas.space.registry import REGISTRY

ALL = [
    pytest.param(check, id=f"{declaration.axis}.{declaration.name}-{name}")
    for declaration in REGISTRY
    for name, check in checks_for(declaration)
]


@pytest.mark.parametrize("check", ALL)
def test_component_obeys(check: Callable[[], None]) -> None:
    check()
