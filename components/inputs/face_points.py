"""The 68 landmarks of iBUG 300-W: their parts, subsets and anatomical edges (survey section 4.2.3).

Left and right are those of the person, who looks at the camera: the right eye is on the left of the picture.
"""

from __future__ import annotations

from itertools import pairwise

PARTS: dict[str, tuple[int, ...]] = {
    "jaw": tuple(range(17)),
    "right brow": tuple(range(17, 22)),
    "left brow": tuple(range(22, 27)),
    "nose bridge": tuple(range(27, 31)),
    "nostrils": tuple(range(31, 36)),
    "right eye": tuple(range(36, 42)),
    "left eye": tuple(range(42, 48)),
    "outer lips": tuple(range(48, 60)),
    "inner lips": tuple(range(60, 68)),
}
"""Every part by name, in the order of Sagonas et al., "300 Faces in-the-Wild Challenge", ICCV Workshops 2013."""

EYE_CORNERS = (36, 45)
"""The outer corners of the eyes; their distance is the inter-ocular distance of 300-W."""

STABLE = (*PARTS["nose bridge"], 36, 39, 42, 45)
"""Points that no facial muscle moves much: the bridge of the nose and the four corners of the eyes."""

SUBSETS: dict[int, tuple[int, ...]] = {
    68: tuple(range(68)),
    51: tuple(range(17, 68)),  # without the jaw: the "inner" points of 300-W
    49: tuple(point for point in range(17, 68) if point not in (60, 64)),  # nor the inner corners of the mouth
    30: (*PARTS["right brow"], *PARTS["left brow"], *PARTS["outer lips"], *PARTS["inner lips"]),
}
"""Points by how many they are: 68 and 51 of 300-W, the 49 of Xiong and De la Torre (CVPR 2013), and brows and mouth,
the 30 of Lei, Li, Chen and Li (CVPR Workshops 2021)."""

_CLOSED = ("right eye", "left eye", "outer lips", "inner lips")
_BETWEEN_PARTS = (
    *((0, 36), (16, 45), (8, 57)),  # jaw to the eyes and to the lower lip
    *((21, 22), (21, 27), (22, 27), (27, 39), (27, 42)),  # brows and eyes to the root of the nose
    *((17, 36), (26, 45)),  # ends of the brows to the eyes
    *((30, 33), (33, 51)),  # tip of the nose to the upper lip
    *((48, 60), (51, 62), (54, 64), (57, 66)),  # outer to inner lips
)


def face_edges(count: int) -> tuple[tuple[int, int], ...]:
    """Return the anatomical edges of a subset as pairs of its own node numbers, the smaller first, sorted.

    Neighbours within a part are joined, eyes and lips are closed rings, and a few edges join the parts. Those of a
    smaller subset are the edges whose two ends it has.

    Args:
        count: How many points the subset has.

    Raises:
        KeyError: If no subset has that many.

    Example:
        >>> len(face_edges(68)), face_edges(30)[:5]
        (79, ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5)))
    """
    pairs: list[tuple[int, int]] = list(_BETWEEN_PARTS)
    for name, points in PARTS.items():
        pairs += pairwise(points)
        if name in _CLOSED:
            pairs.append((points[0], points[-1]))
    nodes = {point: node for node, point in enumerate(SUBSETS[count])}
    return tuple(sorted((nodes[one], nodes[other]) for one, other in pairs if one in nodes and other in nodes))
