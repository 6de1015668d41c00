"""What a pipeline needs of data and of the installation, and how it is told."""

from __future__ import annotations

from mernas.space.genotype import Genotype
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import CAPABILITIES, FRAMES, FROM_WITHIN, GIVEN_FLOW, GIVEN_STRAIN


def needs_of_data(genotype: Genotype) -> frozenset[str]:
    """Return the capabilities that data must have for a pipeline.

    Example:
        >>> import mernas.components
        >>> from mernas.space.presets import load_preset
        >>> sorted(needs_of_data(load_preset("capsulenet").genotype))
        ['apex', 'frames']
    """
    needs: set[str] = set()
    provided: set[str] = set(FROM_WITHIN)
    for leaf in genotype.root.walk():
        declaration = REGISTRY.get(leaf.axis, leaf.name)
        needs |= declaration.needs
        provided |= declaration.provides
        for parameter, value in leaf.values:
            if isinstance(value, (bool, int, float, str)):
                needs |= declaration.parameters[parameter].needs.get(value, frozenset())
    return frozenset(needs - provided)


def installs_of(genotype: Genotype) -> list[str]:
    """Return what must be installed beside mernas for a pipeline, as pip is asked for it; sorted.

    Example:
        >>> import mernas.components
        >>> from mernas.space.presets import load_preset
        >>> installs_of(load_preset("bi_woof").genotype)
        ['mernas[tvl1]']
    """
    declarations = (REGISTRY.get(leaf.axis, leaf.name) for leaf in genotype.root.walk())
    return sorted({wanted for declaration in declarations for wanted in declaration.requires.values()})


def data_in_words(needs: frozenset[str]) -> str:
    """Return for people which data a preset can be evaluated on.

    A preset of shipped flow maps runs on frames, too: `find_pipeline` then lets Farneback's method measure the flow.

    Example:
        >>> data_in_words(frozenset({"frames", "onset", "offset", "frame rate"}))
        'frames with onset, offset and frame rate'
    """
    shipped = frozenset({GIVEN_FLOW, GIVEN_STRAIN})
    rest = [name for name in CAPABILITIES if name in needs - shipped - {FRAMES}]
    if needs & shipped:
        return "flow maps, or frames with onset and apex" + "".join(f", with {name}" for name in rest)
    if not rest:
        return "frames"
    *first, last = rest
    return f"frames with {', '.join(first)} and {last}" if first else f"frames with {last}"
