"""Losses that go wrong in every way that a candidate can; workers import this module by name."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.space.registry import register

MARKER = "MERNAS_TEST_MARKER"
"""The environment variable that names the file which `dies_once` leaves behind."""


class Module(nn.Module):
    """Goes wrong at the first batch, or is cross-entropy."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self.way == "NotANumber":
            return logits.sum() * float("nan")
        if self.way == "Crashes":
            raise KeyError("surprise")
        if self.way == "EatsMemory":
            eaten = []
            while True:
                eaten.append(torch.ones(4_000_000))
        while self.way == "NeverEnds":
            time.sleep(0.01)
        if self.way == "Hangs":  # as a loop in a compiled library does: it hears no alarm
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            time.sleep(3600)
        if self.way == "Dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.way == "DiesOnce" and not Path(os.environ[MARKER]).exists():
            Path(os.environ[MARKER]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return F.cross_entropy(logits, targets)


@dataclass(frozen=True)
class Nasty:
    """A loss that goes wrong as its class's name says."""

    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, rows: TrainingRows) -> nn.Module:
        """Return the module."""
        return Module(type(self).__name__)


NAMES = {
    "not_a_number": "NotANumber",
    "crashes": "Crashes",
    "eats_memory": "EatsMemory",
    "never_ends": "NeverEnds",
    "hangs": "Hangs",
    "dies": "Dies",
    "dies_once": "DiesOnce",
}
for _name, _class in NAMES.items():
    register("loss", _name)(type(_class, (Nasty,), {"__module__": __name__}))
