"""Optical strain: how much a flow field deforms the face, whatever it translates or rotates (survey section 4.2.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def optical_strain(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the magnitude of the optical strain tensor, |e| = sqrt(u_x² + v_y² + (u_y + v_x)² / 2).

    The tensor is the symmetric part of the flow's gradient, e = (∇w + ∇wᵀ) / 2, and |e| its Frobenius norm: the shear
    (u_y + v_x) / 2 stands in it twice, hence the half. Derivatives are central differences, one-sided at the borders.

    Reference: Shreve, Godavarthy, Goldgof, Sarkar, "Macro- and micro-expression spotting in long videos using
    spatio-temporal strain", FG 2011.

    Args:
        flow: (2, H, W), u to the right and v downwards in pixels; H and W at least 2.

    Returns:
        (H, W), never negative, without unit (pixels per pixel).

    Example:
        >>> rows, columns = np.mgrid[0:5, 0:5].astype(np.float32)
        >>> stretch = np.stack([0.1 * columns, 0 * rows])
        >>> bool(np.allclose(optical_strain(stretch), 0.1))
        True
    """
    u_y, u_x = np.gradient(flow[0].astype(np.float64))
    v_y, v_x = np.gradient(flow[1].astype(np.float64))
    strain = np.sqrt(u_x**2 + v_y**2 + 0.5 * (u_y + v_x) ** 2)
    return np.asarray(strain, dtype=np.float32)
