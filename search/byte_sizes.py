"""Numbers of bytes, as people read them."""

from __future__ import annotations


def size_text(count: float) -> str:
    """Return bytes for people.

    Example:
        >>> size_text(3 * 1024**3), size_text(2048), size_text(12)
        ('3.0 GiB', '2.0 KiB', '12 B')
    """
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
