"""Pipelines in words: what each leaf is called, its details, one line for a pipeline, and a paragraph by heading.

Leaves that come with mernas have a phrase of their own. Any other, such as one of a third party, is named by its
registered name and its hyper-parameters, so that a new component needs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mernas.space.genotype import Genotype, Leaf


@dataclass(frozen=True)
class Said:
    """A leaf in words.

    Attributes:
        title: What it is.
        details: What it computes with, each a few words.
        brief: As short as can be, for one line about a whole pipeline.
    """

    title: str
    details: tuple[str, ...] = ()
    brief: str = ""

    @property
    def phrase(self) -> str:
        """Title and details in one phrase."""
        return f"{self.title} ({', '.join(self.details)})" if self.details else self.title


@dataclass(frozen=True)
class Paragraph:
    """A pipeline in words.

    Attributes:
        short: One line.
        parts: Pairs of a heading and what stands there.
    """

    short: str
    parts: tuple[tuple[str, str], ...]


def say(leaf: Leaf) -> Said:
    """Return a leaf in words.

    Example:
        >>> from mernas.space.presets import load_preset
        >>> stream = load_preset("ststnet").genotype.streams[0]
        >>> say(stream["backbone"][0]).phrase
        'Convolution (3 filters of 3 × 3, full padding, ReLU, then batch norm, 3 × 3 max pooling, dropout 0.5)'
    """
    phrase = _PHRASES.get((leaf.axis, leaf.name))
    return phrase(leaf) if phrase is not None else _plain(leaf)


def describe(genotype: Genotype) -> Paragraph:
    """Return a pipeline in words.

    Example:
        >>> from mernas.space.presets import load_preset
        >>> print(describe(load_preset("ststnet").genotype).short)
        3 streams: flow u+v+strain 28 px → conv 3; the same → conv 5; the same → conv 8; joined → linear; 800 epochs
    """
    return Paragraph(_short(genotype), tuple(_parts(genotype)))


def _short(genotype: Genotype) -> str:
    streams: list[str] = []
    inputs: list[str] = []
    for stream in genotype.streams:
        seen = " → ".join(say(leaf).brief for leaf in (*stream["preprocessing"], stream["input"]))
        inputs.append(seen)
        seen = "the same" if inputs[:-1] and inputs[-1] == inputs[-2] else seen
        blocks = [leaf for leaf in _flowing(stream) if leaf.axis != "readout"] if genotype.is_network else ()
        streams.append(" → ".join([seen, *(say(leaf).brief for leaf in blocks)]))
    text = "; ".join(streams) if len(streams) < 2 else f"{len(streams)} streams: {'; '.join(streams)}"
    if not genotype.is_network:
        return f"{text} → {say(genotype['classifier']).brief}"
    if genotype["fusion"] is not None:
        text += f"; {say(genotype['fusion']).brief}"
    return f"{text} → {say(genotype['tasks'][0]).brief}; {say(genotype['training']).brief}"


def _flowing(stream: Leaf) -> list[Leaf]:
    """The parts of a network through which the map of a stream flows."""
    return [leaf for leaf in (*stream["backbone"], stream["readout"], stream["cascade"]) if leaf is not None]


def _parts(genotype: Genotype) -> Iterator[tuple[str, str]]:
    several = len(genotype.streams) > 1
    for number, stream in enumerate(genotype.streams, start=1):
        steps = [say(leaf).phrase for leaf in (*stream["preprocessing"], stream["input"])]
        if genotype.is_network:
            steps += [say(leaf).phrase for leaf in _flowing(stream)]
        yield (f"Stream {number}" if several else "Network" if genotype.is_network else "Input"), _sentence(steps)
    if not genotype.is_network:
        yield "Classifier", _sentence([say(genotype["classifier"]).phrase])
        return
    if genotype["fusion"] is not None:
        yield "Fusion", _sentence([say(genotype["fusion"]).phrase])
    yield "Output", _sentence([say(leaf).phrase for leaf in genotype["tasks"]])
    yield "Scaling of the maps", _sentence([say(genotype["normalisation"]).phrase])
    changes = [say(leaf).phrase for leaf in genotype["augmentation"]]
    yield "Augmentation", _sentence(changes, "; ") if changes else "None."
    yield "Training", _sentence([say(genotype["training"]).phrase])
    extra = [leaf for leaf in (genotype["auxiliary_loss"], genotype["side_task"]) if leaf is not None]
    yield "Loss", _sentence([say(leaf).phrase for leaf in (*genotype["loss"], *extra)], "; ")


def _sentence(phrases: list[str], between: str = ", then ") -> str:
    first, *rest = phrases
    return between.join([first, *(_lower(phrase) for phrase in rest)]) + "."


def _lower(phrase: str) -> str:
    """Begin a phrase in lower case, unless it begins with an abbreviation."""
    return phrase if phrase[:2].isupper() else phrase[:1].lower() + phrase[1:]


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _plain(leaf: Leaf) -> Said:
    """A leaf that has no phrase of its own."""
    details: list[str] = []
    for name, value in leaf.values:
        if isinstance(value, Leaf):
            details.append(f"{_spoken(name)}: {_lower(say(value).phrase)}")
        elif isinstance(value, tuple):
            if value:
                details.append(f"{_spoken(name)}: {', '.join(_lower(say(child).phrase) for child in value)}")
        elif value is not None:
            details.append(f"{_spoken(name)} {value}")
    title = _NAMES.get(leaf.name, _spoken(leaf.name))
    return Said(title[:1].upper() + title[1:], tuple(details), title)


def _flow(leaf: Leaf) -> Said:
    estimator = leaf["estimator"]
    source = _lower(say(estimator).phrase)
    centre = "minus its median" if leaf["centre"] == "median" else None
    quantities = str(leaf["quantities"]).replace("+", ", ")
    size = leaf["size"]
    details = [quantities, source, f"{size} × {size} pixels", centre]
    return Said("Optical flow", tuple(one for one in details if one), f"flow {leaf['quantities']} {size} px")


def _farneback(leaf: Leaf) -> Said:
    return Said("By Farneback's method", (f"window {leaf['window']}", f"{leaf['levels']} levels"), "Farneback")


def _apex(leaf: Leaf) -> Said:
    return Said("Apex frame", ("grey", f"{leaf['size']} × {leaf['size']} pixels"), f"apex frame {leaf['size']} px")


_POOLS = {"none": "no pooling", "max2": "2 × 2 max pooling", "max3": "3 × 3 max pooling",
          "average2": "2 × 2 average pooling", "max3_unpadded": "3 × 3 max pooling of whole windows",
          "max3_overlapping": "overlapping 3 × 3 max pooling",
           "max4": "4 × 4 max pooling", "stride2": "every second pixel", "stride3": "every third pixel",
           "stride4": "every fourth pixel"}  # fmt: skip
_ACTIVATIONS = {"relu": "ReLU", "gelu": "GELU"}
_NAMES = {"se": "SE", "cbam": "CBAM", "eca": "ECA", "lstm": "LSTM", "gru": "GRU", "tcn": "TCN", "lbp_top": "LBP-TOP",
          "bi_woof": "Bi-WOOF", "dis": "DIS", "tvl1": "TV-L1", "ema": "EMA", "swa": "SWA", "tim": "TIM",
          "linear_svm": "linear SVM", "deep_mlp": "deep MLP", "convolution_3d": "3D convolution"}  # fmt: skip
"""How the field writes names that are abbreviations."""


def _dropout(leaf: Leaf) -> tuple[str, ...]:
    return (f"dropout {leaf['dropout']:g}",) if leaf["dropout"] else ()


def _attention(leaf: Leaf) -> tuple[str, ...]:
    return (f"attention by {_NAMES.get(leaf['attention'].name, leaf['attention'].name)}",) if leaf["attention"] else ()


def _convolution(leaf: Leaf) -> Said:
    kernel = leaf["kernel"]
    activation = _ACTIVATIONS.get(leaf["activation"], leaf["activation"])
    norm = {
        "batch": ("batch norm", activation),
        "biasless": ("no bias", "batch norm", activation),
        "late": (activation, "then batch norm"),
        "pooled": (activation, "batch norm after the pooling"),
        "none": (activation,),
    }
    padding = {"same": (), "full": ("full padding",), "none": ("no padding",)}[leaf["padding"]]
    pool = _POOLS.get(leaf["pool"], f"pooling {leaf['pool']}")
    size = f"{leaf['width']} filters of {kernel} × {kernel}"
    details = (size, *padding, *norm[leaf["norm"]], *_attention(leaf), pool, *_dropout(leaf))
    return Said("Convolution", details, f"conv {leaf['width']}")


def _residual(leaf: Leaf) -> Said:
    halves = "halves the map" if leaf["stride"] == 2 else "keeps the map's size"
    details = (f"{leaf['width']} filters of 3 × 3", halves, *_attention(leaf), *_dropout(leaf))
    return Said("Residual block", details, f"residual {leaf['width']}")


def _average(leaf: Leaf) -> Said:
    grid = leaf["grid"]
    if grid == 1:
        return Said("Average", ("of each channel",), "average")
    return Said("Average", (f"over a grid of {grid} × {grid}",), f"average {grid} × {grid}")


def _mlp(leaf: Leaf) -> Said:
    details = (f"{leaf['hidden']} hidden units", *_dropout(leaf))
    return Said("Classifier with one hidden layer", details, f"MLP {leaf['hidden']}")


def _emotion(leaf: Leaf) -> Said:
    head = say(leaf["head"])
    return Said("Emotion", (_lower(head.phrase),), head.brief)


def _scratch(leaf: Leaf) -> Said:
    details = (
        f"{leaf['epochs']} epochs",
        f"batches of {leaf['batch']}",
        say(leaf["optimizer"]).phrase,
        _lower(say(leaf["schedule"]).phrase),
        *(_lower(say(leaf[name]).phrase) for name in ("sampler", "mixing", "averaging") if leaf[name] is not None),
    )
    return Said("From scratch", details, f"{leaf['epochs']} epochs")


def _finetune(leaf: Leaf) -> Said:
    details = (
        f"{leaf['source_epochs']} epochs on macro-expressions",
        f"{leaf['epochs']} epochs at {leaf['rate']:g} of that learning rate",
        *(("streams frozen",) if leaf["frozen"] == "streams" else ()),
        *(("a new head",) if leaf["head"] == "reset" else ()),
        f"batches of {leaf['batch']}",
        say(leaf["optimizer"]).phrase,
        _lower(say(leaf["schedule"]).phrase),
    )
    return Said("Fine-tuned", details, f"fine-tuned, {leaf['source_epochs']} + {leaf['epochs']} epochs")


def _adamw(leaf: Leaf) -> Said:
    return Said(f"AdamW at learning rate {leaf['lr']:g}, weight decay {leaf['weight_decay']:g}", (), "AdamW")


def _sgd(leaf: Leaf) -> Said:
    decay = f", weight decay {leaf['weight_decay']:g}" if leaf["weight_decay"] else ""
    return Said(f"SGD at learning rate {leaf['lr']:g}, momentum {leaf['momentum']:g}{decay}", (), "SGD")


def _cross_entropy(leaf: Leaf) -> Said:
    weights = "classes weighted alike" if leaf["weighting"] == "balanced" else "clips weighted alike"
    smoothing = (f"label smoothing {leaf['smoothing']:g}",) if leaf["smoothing"] else ()
    return Said("Cross-entropy", (weights, *smoothing), "cross-entropy")


def _shift(leaf: Leaf) -> Said:
    pixels = leaf["pixels"]
    return Said("Shift", (f"by up to {pixels} pixel{'s' if pixels > 1 else ''} each way",), "shift")


def _flip(leaf: Leaf) -> Said:
    return Said("Mirroring", (f"of {leaf['probability']:.0%} of the clips",), "mirroring")


def _fixed(title: str, brief: str, *details: str) -> Callable[[Leaf], Said]:
    return lambda leaf: Said(title, details, brief)


def _given_strength(title: str) -> Callable[[Leaf], Said]:
    """A classical classifier: its title, and its settings by name."""

    def said(leaf: Leaf) -> Said:
        return Said(title, tuple(f"{name} = {value}" for name, value in leaf.values), title)

    return said


_PHRASES: dict[tuple[str, str], Callable[[Leaf], Said]] = {
    ("input", "optical_flow"): _flow,
    ("input", "apex_frame"): _apex,
    ("flow_estimator", "farneback"): _farneback,
    ("flow_estimator", "given"): _fixed("As released", "given"),
    ("block", "convolution"): _convolution,
    ("block", "residual"): _residual,
    ("readout", "average"): _average,
    ("readout", "flatten"): _fixed("All values in a row", "flatten"),
    ("fusion", "concatenation"): _fixed("Joined", "joined", "the vectors of the streams end to end"),
    ("head", "linear"): _fixed("One linear layer", "linear"),
    ("head", "mlp"): _mlp,
    ("task", "emotion"): _emotion,
    ("normalisation", "standardise"): _fixed("Standardised", "standardised", "zero mean, unit spread per channel",
                                             "fitted on the training clips"),
    ("normalisation", "raw"): _fixed("Raw", "raw", "maps enter as they are"),
    ("augmentation", "shift"): _shift,
    ("augmentation", "flip"): _flip,
    ("training", "scratch"): _scratch,
    ("training", "finetune"): _finetune,
    ("optimizer", "adamw"): _adamw,
    ("optimizer", "sgd"): _sgd,
    ("schedule", "cosine"): _fixed("Learning rate falling like a cosine", "cosine"),
    ("schedule", "constant"): _fixed("Constant learning rate", "constant"),
    ("loss", "cross_entropy"): _cross_entropy,
    ("classifier", "rbf_svm"): _given_strength("RBF SVM"),
    ("classifier", "logistic_regression"): _given_strength("Logistic regression"),
    ("classifier", "majority"): _fixed("The commonest class, always", "majority class"),
}  # fmt: skip
