"""The product, number by number: a fusion of streams (survey 5.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from mernas.components.topologies.projection import Projection, projected_length
from mernas.space.parameters import integer
from mernas.space.registry import register


@register("fusion", "product")
@dataclass(frozen=True)
class Product:
    """The product of the vectors, number by number; where they are not equally long, each is projected to `width`.

    Example:
        >>> Product(width=32).build([75, 75])[1], Product(width=32).build([75, 125])[1]
        (75, 32)
    """

    width: int = integer(2, 512, default=64, log=True, doc="length of the projected vectors")

    def length_after(self, features: Sequence[int]) -> int:
        """Return the length of the vector that it gives for vectors of these lengths."""
        return projected_length(features, self.width)

    def build(self, features: Sequence[int]) -> tuple[nn.Module, int]:
        """Return a module that takes a list of tensors (B, features[i]), and the length of the vector it gives."""
        projection = Projection(features, self.width)
        return nn.Sequential(projection, _Product()), projection.length


class _Product(nn.Module):
    def forward(self, vectors: list[Tensor]) -> Tensor:
        """Return (B, length) for as many tensors (B, length) as there are streams."""
        product = vectors[0]
        for vector in vectors[1:]:  # not torch.prod, whose gradient is harder on exporters and on zeros
            product = product * vector
        return product
