"""From a genotype to a network: streams, fusion, task; and the count of its parameters without training anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mernas.components.contracts import Fusion, Input, Normalisation, ScoreFusion, Shape, Task, TrainingRows
from mernas.components.topologies.stage import Stage, build_stage
from mernas.space.errors import Problem, SpaceError
from mernas.space.genotype import Genotype, Leaf, instantiate


class Network(nn.Module):
    """Streams, each a normaliser, blocks, a readout and maybe a cascade; then a fusion of several, then a task.

    Args:
        streams: One module per stream from maps (B, ...) to vectors (B, F); its first child is the normaliser.
        fusion: From the list of vectors to one; None where there is a single stream.
        task: From the vector to logits (B, classes).
        length: Length of the fused vector.
    """

    def __init__(
        self, streams: Sequence[nn.Sequential], fusion: nn.Module | None, task: nn.Module, length: int
    ) -> None:
        super().__init__()
        self.streams = nn.ModuleList(streams)
        self.fusion = fusion
        self.task = task
        self.length = length

    def fused(self, maps: list[Tensor]) -> Tensor:
        """Return the fused vectors (B, length), before the task.

        Args:
            maps: For each stream in the order of the genotype, (B, *shape of its input), not yet normalised.
        """
        vectors = [stream(batch) for stream, batch in zip(self.streams, maps, strict=True)]
        vector: Tensor = vectors[0] if self.fusion is None else self.fusion(vectors)
        return vector

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return logits (B, classes); arguments as of `fused`."""
        logits: Tensor = self.task(self.fused(maps))
        return logits


class _ScoreLevel(nn.Module):
    """A head for each stream, whose scores are fused: takes the vectors of all streams, one after the other."""

    def __init__(self, lengths: Sequence[int], heads: Sequence[nn.Module], fusion: nn.Module) -> None:
        super().__init__()
        self.lengths = list(lengths)
        self.heads = nn.ModuleList(heads)
        self.fusion = fusion

    def forward(self, vector: Tensor) -> Tensor:
        """Return logits (B, classes) for (B, sum of lengths)."""
        parts = torch.split(vector, self.lengths, dim=1)
        scores = torch.stack([head(part) for head, part in zip(self.heads, parts, strict=True)], dim=1)
        logits: Tensor = self.fusion(scores)
        return logits


def build_network(genotype: Genotype, classes: int) -> Network:
    """Return the network of a genotype, with PyTorch's default initialisation and unfitted normalisers.

    The weights are drawn from torch's global generator: seed it before the call.

    Args:
        genotype: A network pipeline.
        classes: How many classes are told apart.

    Raises:
        SpaceError: If it is no network, or if its maps become too small on the way.

    Example:
        >>> from mernas.space.presets import load_preset
        >>> network = build_network(load_preset("ststnet").genotype, classes=3)
        >>> network([torch.zeros(2, 3, 28, 28)] * 3).shape
        torch.Size([2, 3])
    """
    if not genotype.is_network:
        raise SpaceError(Problem("genotype", "must be a network to be built", genotype.root.name))
    normalisation: Normalisation = instantiate(genotype["normalisation"])
    streams: list[nn.Sequential] = []
    features: list[int] = []
    for stream in genotype.streams:
        shape: Shape = _input(stream).shape
        modules: list[nn.Module] = [normalisation.build(shape)]
        for stage in stages(stream):
            module, shape = build_stage(stage, shape)
            modules.append(module)
        streams.append(nn.Sequential(*modules))
        features.append(shape[0])
    task: Task = instantiate(genotype["tasks"][0])
    if len(streams) == 1:
        return Network(streams, None, task.build(features[0], classes), features[0])
    component: Fusion = instantiate(genotype["fusion"])
    fusion, length = component.build(features)
    if getattr(component, "level", "feature") != "score":
        return Network(streams, fusion, task.build(length, classes), length)
    of_scores: ScoreFusion = instantiate(genotype["fusion"])
    heads = [task.build(count, classes) for count in features]
    scores = _ScoreLevel(features, heads, of_scores.build_scores(len(features), classes))
    return Network(streams, fusion, scores, length)


def stages(stream: Leaf) -> list[Stage]:
    """Return the components of a stream through which its map flows: blocks, readout and, if there is one, cascade."""
    leaves = (*stream["backbone"], stream["readout"], stream["cascade"])
    return [instantiate(leaf) for leaf in leaves if leaf is not None]


def count_parameters(genotype: Genotype, classes: int) -> int:
    """Return how many parameters the network of a genotype has, and prove on the way that it can run.

    The network is built without memory for its weights and without random numbers, and a batch of two is sent through
    it. All parameters count that inference needs, norms included; buffers such as running means do not.

    Args:
        genotype: A network pipeline.
        classes: How many classes are told apart.

    Raises:
        SpaceError: If the genotype cannot be built or its layers do not fit together.

    Example:
        >>> from mernas.space.presets import load_preset
        >>> count_parameters(load_preset("ststnet").genotype, classes=3)
        1683
    """
    with torch.device("meta"), torch.no_grad():
        network = build_network(genotype, classes).eval()
        maps = [torch.empty((2, *_input(stream).shape)) for stream in genotype.streams]
        try:
            given = tuple(network(maps).shape)
        except RuntimeError as error:
            found = str(error).partition("\n")[0]
            raise SpaceError(Problem("genotype", "its layers do not fit together", found)) from error
    if given != (2, classes):
        raise SpaceError(Problem("genotype", f"must give scores of shape {(2, classes)}", str(given)))
    return sum(parameter.numel() for parameter in network.parameters())


def fit_normalisation(network: Network, genotype: Genotype, rows: TrainingRows) -> None:
    """Fit the normaliser of every stream on the training rows of a job.

    Args:
        network: What `build_network` made of the same genotype.
        genotype: The pipeline.
        rows: The training rows.
    """
    normalisation: Normalisation = instantiate(genotype["normalisation"])
    for number, stream in enumerate(network.streams):
        normalisation.fit(stream.get_submodule("0"), rows, number)


def _input(stream: Leaf) -> Input:
    component: Input = instantiate(stream["input"])
    return component
