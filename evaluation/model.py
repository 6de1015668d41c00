"""Models: a bundle brought back to life, from clips to class probabilities. Needs neither search nor data."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mernas.components.datasets.clip import Clip
from mernas.components.topologies.network import Network, build_network
from mernas.evaluation.bundle import REWRITTEN, Bundle, read_bundle, seal
from mernas.evaluation.bundle_files import WEIGHTS
from mernas.evaluation.calibration import temper
from mernas.evaluation.fitting import numeric_state, predict
from mernas.evaluation.preparation import prepare_now
from mernas.evaluation.serving import clips_of
from mernas.space.errors import DataError, MernasError, Problem, raise_all
from mernas.space.genotype import Genotype

if TYPE_CHECKING:
    import pandas as pd

FORMAT_NOTE = {"format": "pt"}
"""What safetensors files of torch tensors say of themselves; a second entry would have no fixed order."""


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model.

    Attributes:
        bundle: What it is and where it comes from.
        network: From a list of maps (B, C, H, W) to logits (B, K), in eval mode.
    """

    bundle: Bundle
    network: nn.Module

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the probabilities."""
        return self.bundle.classes

    def prepare(self, clips: Sequence[Clip]) -> list[Tensor]:
        """Return the maps of some clips, (n, C, H, W) float32 for every stream; nothing is kept in a cache.

        Raises:
            DataError: If a clip lacks what the pipeline needs, or a map is not finite; all such clips at once.
        """
        recipes = self.bundle.recipes
        made = {recipe: torch.from_numpy(prepare_now(clips, recipe)) for recipe in dict.fromkeys(recipes)}
        return [made[recipe] for recipe in recipes]

    def probabilities(self, clips: Sequence[Clip]) -> NDArray[np.float64]:
        """Return calibrated class probabilities (n, K) of some clips; errors as for `prepare`."""
        return self.probabilities_of(self.prepare(clips))

    def probabilities_of(self, maps: Sequence[Tensor]) -> NDArray[np.float64]:
        """Return calibrated class probabilities (n, K) of prepared maps, (n, C, H, W) for every stream.

        Raises:
            DataError: If the maps are not of the shapes that the network takes.
        """
        return temper(self.raw_probabilities_of(maps), self.bundle.temperature)

    def raw_probabilities_of(self, maps: Sequence[Tensor]) -> NDArray[np.float64]:
        """Return the softmax of the network's logits (n, K), as it was trained; arguments as for `probabilities_of`."""
        _check_maps(maps, self.bundle)
        if not len(maps[0]):
            return np.empty((0, len(self.classes)))
        with numeric_state(0, "cpu"):
            return predict(self.network, list(maps))

    def predict(
        self,
        *sources: str | Path,
        onset: int | None = None,
        apex: int | None = None,
        fps: float | None = None,
    ) -> pd.DataFrame:
        """Predict videos, folders of frames or, where the model was trained on such, flow images.

        Args:
            sources: Paths, one after the other, in which `~` is the home folder; see
                `mernas.evaluation.serving.clips_of`.
            onset: Number of the frame in which the movement begins, counted from 0; a default is told in the notes.
            apex: Number of the frame in which it is strongest.
            fps: Frames per second of all recordings, for models that reckon in seconds. It overrules what a video says
                of itself, which the notes then tell; a folder of frames cannot say it.

        Returns:
            One row per clip: `source`, `prediction`, `confident` (whether the largest probability reaches the model's
            threshold), `p_<class>` for every class, and `notes`, a tuple of what was assumed.

        Raises:
            MernasError: If the model cannot serve a source, with why and what would.
            DataError: If something else than paths and numbers is given, or a probability is no number.
        """
        import pandas as pd

        clips, notes = clips_of(self.bundle, *_checked_request(sources, onset, apex, fps))
        probabilities = self.probabilities(clips)
        broken = [clip.key for clip, row in zip(clips, probabilities, strict=True) if not np.isfinite(row).all()]
        if broken:
            rule, remedy = "must give probabilities that are numbers", "check the clips"
            found = f"NaN for {', '.join(broken[:3])}"
            raise DataError(Problem(f"model {self.bundle.folder}", rule, found, remedy))
        table = pd.DataFrame(
            {
                "source": [clip.key for clip in clips],
                "prediction": [self.classes[number] for number in probabilities.argmax(axis=1)],
                "confident": probabilities.max(axis=1, initial=0.0) >= self.bundle.threshold,
            }
        )
        for number, name in enumerate(self.classes):
            table[f"p_{name}"] = probabilities[:, number]
        table["notes"] = pd.Series([tuple(said) for said in notes], dtype=object)
        return table


def load_model(folder: str | Path) -> Model:
    """Return the model of a bundle; nothing that is read can run code.

    Args:
        folder: What `mernas export` wrote, or a copy of it.

    Raises:
        DataError: If it is no bundle, not as it was written, newer than this mernas, or made of components that this
            installation lacks or has in another version.
    """
    bundle = read_bundle(folder)
    path = Path(folder).expanduser() / WEIGHTS
    content = path.read_bytes()
    if seal(content) != bundle.files[WEIGHTS]:
        raise DataError(Problem(f"model {folder}, {WEIGHTS}", "changed while it was read", "", REWRITTEN))
    return Model(bundle, restore_network(bundle.genotype, len(bundle.classes), content, f"model {folder}, {WEIGHTS}"))


def network_bytes(network: nn.Module) -> bytes:
    """Return the weights and buffers of a network as the content of a safetensors file; equal weights, equal bytes.

    Example:
        >>> safetensors.torch.load(network_bytes(nn.BatchNorm2d(2)))["running_var"]
        tensor([1., 1.])
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    return safetensors.torch.save(tensors, FORMAT_NOTE)


def restore_network(genotype: Genotype, classes: int, content: bytes, subject: str) -> Network:
    """Return a network with the weights of a safetensors file, in eval mode and without gradients.

    Args:
        genotype: The pipeline.
        classes: How many classes are told apart.
        content: The file.
        subject: What messages call it.

    Raises:
        DataError: If the file is no safetensors file, or its tensors are not those of the network.
    """
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise DataError(Problem(subject, "is no safetensors file", str(error), REWRITTEN)) from None
    try:
        with torch.device("meta"):  # without memory, so that a foreign file is refused before anything is allocated
            expected = build_network(genotype, classes).state_dict()
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError, ArithmeticError) as error:
        if isinstance(error, MernasError):
            raise
        rule, found = "its pipeline cannot be built", f"{type(error).__name__}: {error}"
        raise DataError(Problem(subject, rule, found, REWRITTEN)) from None
    problems: list[Problem | str] = []
    for name in sorted({*expected, *tensors}):
        wanted, found = _described(expected.get(name)), _described(tensors.get(name))
        if wanted != found:
            problems.append(Problem(f"{subject}, tensor {name}", f"must be {wanted}", found, REWRITTEN))
    raise_all(DataError, problems)
    with torch.random.fork_rng(devices=[]):  # building draws weights, which are replaced
        network = build_network(genotype, classes)
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def _checked_request(
    sources: Sequence[object], onset: object, apex: object, fps: object
) -> tuple[list[str | Path], int | None, int | None, float | None]:
    """The arguments of `Model.predict` with the home folder for `~`, if they are of the kinds that it takes."""
    problems: list[Problem | str] = []
    paths: list[str | Path] = []
    for source in sources:
        if isinstance(source, str):
            paths.append(os.path.expanduser(source))  # a name like "~1.mp4" is left as it is
        elif isinstance(source, Path):
            paths.append(Path(os.path.expanduser(source)))  # as above
        else:
            remedy = "give paths one by one; those of a list with a star: predict(*paths)"
            problems.append(Problem("sources", "must be paths", _kind(source), remedy))
    numbers: list[int | None] = []
    for name, given in (("onset", onset), ("apex", apex)):
        whole = isinstance(given, (int, np.integer)) and not isinstance(given, bool)
        if given is not None and not whole:
            rule, remedy = "must be the number of a frame, counted from 0", "give a whole number"
            problems.append(Problem(name, rule, _kind(given), remedy))
        numbers.append(int(given) if isinstance(given, (int, np.integer)) else None)
    rate = _number(fps)
    if fps is not None and rate is None:
        problems.append(Problem("fps", "must be a number of frames per second", _kind(fps), "give a number"))
    raise_all(DataError, problems)
    return paths, numbers[0], numbers[1], rate


def _number(value: object) -> float | None:
    """A number as a float, infinite if it is too large for one; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return None
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _kind(value: object) -> str:
    return f"{type(value).__name__} {textwrap.shorten(repr(value), 60)}"


def _described(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _check_maps(maps: Sequence[Tensor], bundle: Bundle) -> None:
    shapes = [component.shape for component in bundle.inputs]
    problems: list[Problem | str] = []
    if len(maps) != len(shapes):
        problems.append(Problem("maps", f"must be of {len(shapes)} streams", str(len(maps))))
    for number, (stream, shape) in enumerate(zip(maps, shapes, strict=False)):
        if tuple(stream.shape[1:]) != shape or len(stream) != len(maps[0]):
            rule = f"must be (n, {', '.join(map(str, shape))}), with one n for all streams"
            problems.append(Problem(f"maps of stream {number}", rule, str(tuple(stream.shape))))
    raise_all(DataError, problems)
