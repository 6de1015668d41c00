"""Graph convolution over the landmarks of a face (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mernas.components.contracts import Shape
from mernas.components.inputs.face_points import SUBSETS, face_edges
from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import choice, integer, real
from mernas.space.registry import register
from mernas.space.taxonomy import GRAPH


@register("block", "graph_convolution", source="Kipf, Welling: ICLR 2017", maps={GRAPH: GRAPH})
@dataclass(frozen=True, kw_only=True)
class GraphConvolution:
    """Features of neighbours are averaged and mapped: H' = dropout(act(norm(Â H W + b))).

    Â = D^(-1/2) (A + I) D^(-1/2) for the 0-1 adjacency A of the nodes and the degrees D of A + I. With `face`, A is
    that of the anatomical edges; with `learned`, Â is a free matrix of N² parameters that starts there, or at the
    identity where the nodes are no known landmarks. With `residual`, H is added before the activation, by a linear
    map of its own where the width changes.

    Example:
        >>> module, shape = GraphConvolution(width=8).build((51, 4))
        >>> shape, module(torch.zeros(2, 51, 4)).shape
        ((51, 8), torch.Size([2, 51, 8]))
    """

    width: int = integer(4, 256, default=32, log=True, doc="output features of a node")
    adjacency: str = choice("face", "learned", default="face", doc="which nodes are neighbours", sizes=True)
    norm: str = choice("batch", "none", default="batch", doc="norm before the activation, per feature")
    activation: str = choice("relu", "gelu", default="relu", doc="what makes it non-linear")
    residual: bool = choice(False, True, default=False, doc="whether the input is added before the activation")
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of values set to zero in training")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (N, width) that leaves it.

        Args:
            shape: (N, F).

        Raises:
            SpaceError: If anatomical edges are wanted of a number of nodes that is that of no set of landmarks.
        """
        nodes = shape[0]
        if nodes not in SUBSETS and self.adjacency != "learned":
            known = ", ".join(str(count) for count in SUBSETS)
            remedy = "use adjacency: learned"
            rule = f"anatomical edges are known for {known} landmarks"
            raise SpaceError(Problem('block "graph_convolution", adjacency face', rule, f"{nodes} nodes", remedy))
        return nodes, self.width

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for graphs (B, N, F) and the shape (N, width) that leaves it; errors as there."""
        left = self.shape_after(shape)
        nodes, features = shape
        known = nodes in SUBSETS
        matrix = normalised_adjacency(nodes, face_edges(nodes)) if known else torch.eye(nodes)
        return _GraphModule(self, matrix, features), left


def normalised_adjacency(nodes: int, edges: tuple[tuple[int, int], ...]) -> Tensor:
    """Return D^(-1/2) (A + I) D^(-1/2), (nodes, nodes), for undirected edges without weights.

    Example:
        >>> normalised_adjacency(3, ((0, 1),))
        tensor([[0.5000, 0.5000, 0.0000],
                [0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 1.0000]])
    """
    neighbours: list[set[int]] = [{node} for node in range(nodes)]
    for one, other in edges:
        neighbours[one].add(other)
        neighbours[other].add(one)
    degrees = [len(near) for near in neighbours]
    return torch.tensor(
        [
            [(degrees[row] * degrees[column]) ** -0.5 if column in neighbours[row] else 0.0 for column in range(nodes)]
            for row in range(nodes)
        ]
    )


class _GraphModule(nn.Module):
    matrix: Tensor

    def __init__(self, choices: GraphConvolution, matrix: Tensor, features: int) -> None:
        super().__init__()
        if choices.adjacency == "learned":
            self.matrix = nn.Parameter(matrix)
        else:
            self.register_buffer("matrix", matrix)
        self.linear = nn.Linear(features, choices.width)
        self.norm = nn.BatchNorm1d(choices.width) if choices.norm == "batch" else nn.Identity()
        self.activation = nn.ReLU() if choices.activation == "relu" else nn.GELU()
        self.shortcut: nn.Module | None = None
        if choices.residual:
            same = features == choices.width
            self.shortcut = nn.Identity() if same else nn.Linear(features, choices.width, bias=False)
        self.dropout = nn.Dropout(choices.dropout)

    def forward(self, graphs: Tensor) -> Tensor:
        """Return (B, N, width) for (B, N, F)."""
        mixed: Tensor = self.linear(self.matrix @ graphs)
        mixed = self.norm(mixed.transpose(1, 2)).transpose(1, 2)  # batch norm wants the features second
        if self.shortcut is not None:
            mixed = mixed + self.shortcut(graphs)
        dropped: Tensor = self.dropout(self.activation(mixed))
        return dropped
