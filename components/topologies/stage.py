"""One stage of a stream: a block, readout or cascade, built for the shape that arrives (survey section 5.2)."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from mernas.components.contracts import Shape

VIDEO_RANK = 4


class Stage(Protocol):
    """What blocks, readouts and cascades have in common."""

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for an input of `shape`, and the shape that leaves it."""


def build_stage(component: Stage, shape: Shape) -> tuple[nn.Module, Shape]:
    """Return the module of a stage for an input of `shape`, and the shape that leaves it.

    A block of images that calls itself `frame_wise` is applied to each frame of a video with the same weights.

    Args:
        component: A block, readout or cascade.
        shape: Without the batch, e.g. (C, H, W) or (C, T, H, W).

    Raises:
        SpaceError: If it cannot be built for this shape.

    Example:
        >>> from mernas.components.blocks.convolution import Convolution
        >>> build_stage(Convolution(width=4, pool="none"), (1, 10, 28, 28))[1]
        (4, 10, 28, 28)
    """
    if len(shape) == VIDEO_RANK and getattr(component, "frame_wise", False):
        channels, frames, height, width = shape
        module, (channels, height, width) = component.build((channels, height, width))
        return FrameWise(module), (channels, frames, height, width)
    return component.build(shape)


class FrameWise(nn.Module):
    """Applies a module of images to each frame of a video.

    Args:
        image: From (B, C, H, W) to (B, C', H', W').
    """

    def __init__(self, image: nn.Module) -> None:
        super().__init__()
        self.image = image

    def forward(self, video: Tensor) -> Tensor:
        """Return (B, C', T, H', W') for (B, C, T, H, W)."""
        batch, channels, frames, height, width = video.shape
        images = video.transpose(1, 2).reshape(batch * frames, channels, height, width)
        maps: Tensor = self.image(images)
        return maps.reshape(batch, frames, *maps.shape[1:]).transpose(1, 2)
