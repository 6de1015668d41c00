"""Readouts, fusion, heads and tasks, and the network that they make (survey section 5.2)."""
