"""The report: its figures are those of the tables, its page is safe and well formed, and it stays small."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import os
import random
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, f1_score

import mernas.components  # noqa: F401  # registers every component
from mernas.components.datasets.clip import Clip, Dataset
from mernas.evaluation.picking import format_size, parse_size
from mernas.search.audit import make_audit
from mernas.search.choosing import repeated_predictions
from mernas.search.finished import FinishedRun, open_run
from mernas.search.notation import difference_span
from mernas.search.report import make_report, report_command, report_files
from mernas.search.report.comparison import paired_differences
from mernas.search.report.diagram import draw_pipeline
from mernas.search.report.estimates import Difference
from mernas.search.report.words import describe, say
from mernas.search.run import SearchResult, run_search
from mernas.space.errors import PlanError
from mernas.space.genotype import parse_genotype
from mernas.space.registry import REGISTRY, register
from mernas.space.restriction import load_space
from mernas.space.suggestion import RandomTrial

HOSTILE = "</script><img src=x onerror=alert(1)>"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Node:
    """An element of a page."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: Node | None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Node | str] = []

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def find(self, tag: str) -> list[Node]:
        return [node for node in self.walk() if node.tag == tag]

    @property
    def text(self) -> str:
        inside = "".join(child if isinstance(child, str) else child.text for child in self.children)
        return " ".join(inside.split()) if self.tag in ("td", "th", "caption") else inside


class Reader(HTMLParser):
    """Builds the tree and refuses what is not nested properly."""

    def __init__(self) -> None:
        super().__init__()
        self.root = self.here = Node("root", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs}, self.here)
        assert len(node.attributes) == len(attrs), f"an attribute of <{tag}> twice"
        self.here.children.append(node)
        if tag not in VOID:
            self.here = node

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.here.children.append(Node(tag, {name: value or "" for name, value in attrs}, self.here))

    def handle_endtag(self, tag: str) -> None:
        assert self.here.tag == tag, f"</{tag}> ends <{self.here.tag}>"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.children.append(data)


def read(page: str) -> Node:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.here is reader.root, f"<{reader.here.tag}> is never ended"
    return reader.root


def table(page: Node, caption: str) -> list[list[str]]:
    """The cells of the body of the table whose caption begins so."""
    (found,) = [one for one in page.find("table") if any(c.text.startswith(caption) for c in one.find("caption"))]
    rows = [row for body in found.find("tbody") for row in body.find("tr")]
    return [[cell.text for cell in row.children if isinstance(cell, Node)] for row in rows]


def printed(value: float) -> str:
    """A score as the page has it, by another way than the page's."""
    text = str(np.format_float_positional(round(value, 3), precision=3, min_digits=3)).replace("-", "−")
    return re.sub(r"^(−?)0\.", r"\1.", text)


@pytest.fixture(scope="module")
def run(finished: SearchResult) -> FinishedRun:
    return open_run(finished.folder)


@pytest.fixture(scope="module")
def files(run: FinishedRun) -> dict[str, bytes]:
    return report_files(run)


@pytest.fixture(scope="module")
def page(files: dict[str, bytes]) -> Node:
    return read(files["report.html"].decode())


@pytest.fixture(scope="module")
def other(
    toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> FinishedRun:
    """Another search on the same clips, repeated twice: other seed, other sampler, other groups."""
    folder = tmp_path_factory.mktemp("other") / "run"
    asked = {**small, "trials": 2, "batch": 2, "seed": 8, "sampler": "random", "seeds": 2}
    return open_run(run_search(toy(), space=toy_space, out=folder, **asked).folder)


@pytest.fixture(scope="module")
def hostile(
    toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> FinishedRun:
    """A run on data whose class, subject, dataset and own name try to leave their places."""
    plain = toy()
    clips = tuple(
        sorted((renamed(clip) for clip in plain.clips), key=lambda clip: clip.key),
    )
    emotions = {renamed(clip).key: plain.annotations.loc[clip.key, "emotion"] for clip in plain.clips}
    classes = (HOSTILE, *plain.classes[1:])
    emotion = [HOSTILE if emotions[clip.key] == plain.classes[0] else emotions[clip.key] for clip in clips]
    annotations = pd.DataFrame({"emotion": emotion}, index=pd.Index([clip.key for clip in clips], name="clip"))
    data = Dataset(f"data {HOSTILE}", clips, annotations, classes, plain.provides, plain.licence)
    folder = tmp_path_factory.mktemp("hostile") / "run"
    return open_run(run_search(data, space=toy_space, out=folder, **{**small, "trials": 2, "batch": 2}).folder)


def renamed(clip: Clip) -> Clip:
    end = 'x"><svg onload=alert(2)>'
    dataset, subject = f"{clip.dataset}{HOSTILE}", f"{clip.subject}{end}{HOSTILE}"
    return replace(clip, key=f"{clip.key}{end}", dataset=dataset, subject=subject)


# Figures


def test_the_figures_of_front_rules_and_baselines_are_those_of_the_tables(run: FinishedRun, page: Node) -> None:
    folder = run.folder
    shown = {row[0]: row[1:] for row in table(page, "The figures of the picture")}
    rules = {row[0]: row[1:] for row in table(page, "The rules, and the baselines")}
    assert shown
    seen = 0
    for name, column in (("front", "budget"), ("rules", "rule"), ("baselines", "baseline")):
        for _, line in pd.read_csv(folder / f"{name}.csv", dtype={"budget": str}).iterrows():
            title = str(line[column]).replace("rbf_svm", "RBF SVM").replace("_", " ")
            if name == "front":
                title = " = ".join({"300": "≤300", "3000": "≤3k"}[budget] for budget in str(line["budget"]).split("+"))
            own = [
                cells for key, cells in shown.items() if title in (key, *key.removesuffix(" (baseline)").split(" = "))
            ]
            own = own or [cells for key, cells in shown.items() if key.startswith(title)]
            assert len(own) == 1, title
            interval = f"[{printed(line['ci_low'])}, {printed(line['ci_high'])}]"
            figures = [printed(line["nested_uf1"]), interval, printed(line["inner_uf1"]), printed(line["nested_uar"])]
            assert own[0][:4] == figures
            assert own[0][6] == str(line["failed"])
            if name != "baselines":
                assert own[0][4] == f"{line['params']:,}"
                assert own[0][5] == f"{line['params_min']:,} to {line['params_max']:,}"
            if name == "rules":
                assert rules[title] == own[0]
            seen += 1
    assert seen == len(run.tables.front) + len(run.tables.rules) + len(run.tables.baselines)


def test_the_headline_is_the_first_rule_of_the_plan_and_never_the_largest_figure(run: FinishedRun, page: Node) -> None:
    (number,) = [node for node in page.find("span") if node.attributes.get("class") == "hero-number"]
    rules = run.tables.rules.set_index("rule")
    assert number.text == printed(rules.loc["best", "nested_uf1"])
    assert str(run.plan.rules[0]) == "best"


def test_scores_and_confusions_are_those_of_the_predictions(run: FinishedRun, page: Node) -> None:
    predictions = pd.read_csv(run.folder / "predictions.csv", keep_default_na=False)
    own = predictions[predictions["rule"] == "best"]
    names = list(run.plan.dataset.classes)
    title = next(
        caption.text.removeprefix("Scores by dataset and class: ")
        for caption in page.find("caption")
        if re.search(r"^Scores by dataset and class: .*\bbest\b", caption.text)
    )
    lines = {row[0]: row[1:] for row in table(page, f"Scores by dataset and class: {title}")}
    for part, clips in [("all", own), *own.groupby("dataset")]:
        each = f1_score(clips["label"], clips["prediction"], labels=names, average=None, zero_division=0)
        assert lines[str(part)][0] == str(len(clips))
        assert lines[str(part)][1] == printed(each.mean())
        assert lines[str(part)][4:] == [printed(value) for value in each]
    (region,) = [node for node in page.walk() if node.attributes.get("aria-label") == f"Confusion matrix of {title}"]
    cells = [row.find("td") for row in region.find("tbody")[0].find("tr")]
    counts = [[int(str(cell.children[0])) for cell in row] for row in cells]
    assert counts == confusion_matrix(own["label"], own["prediction"], labels=names).tolist()


def test_clips_right_by_subject_are_those_of_the_predictions(run: FinishedRun, page: Node) -> None:
    predictions = pd.read_csv(run.folder / "baseline_predictions.csv", keep_default_na=False)
    own = predictions[predictions["baseline"] == "rbf_svm"]
    right = (own["label"] == own["prediction"]).groupby(own["subject"]).sum()
    (found,) = [t for t in page.find("table") if any("Clips predicted right" in c.text for c in t.find("caption"))]
    heads = [cell.text for cell in found.find("thead")[0].find("th")]
    shown = {row[0]: row[heads.index("RBF SVM")] for row in table(page, "Clips predicted right, by subject")}
    assert shown == {subject: str(count) for subject, count in right.items()}


def test_the_audit_names_what_is_no_result_and_by_how_much_it_flatters(
    run: FinishedRun, files: dict[str, bytes], page: Node
) -> None:
    plain = json.loads(files["audit.json"])
    assert plain == make_audit(run).plain()
    (section,) = [node for node in page.find("section") if node.attributes.get("id") == "audit"]
    stamps = [node for node in section.find("span") if "stamp" in node.attributes.get("class", "")]
    assert len(stamps) >= 4
    assert {stamp.text for stamp in stamps} == {"not a result"}
    lines = {row[0]: row[1:] for row in table(page, "The estimate and three figures")}
    best = next(one for one in plain["rows"] if one["row"] == "best")
    (own,) = [cells for title, cells in lines.items() if "best" in title.split(" = ")]
    each = best["not_a_result"]["best_epoch_per_subject_uf1"]
    assert own[1] == printed(best["not_a_result"]["final_study_inner_uf1"])
    assert own[5] == printed(each)
    ahead = round((each - best["nested_uf1"]) * 100, 1)
    assert float(own[6].replace("−", "-")) == pytest.approx(ahead, abs=0.051)
    assert own[6][0] == "+" or ahead <= 0


def test_shares_and_effects_are_those_of_the_trials(run: FinishedRun, page: Node) -> None:
    trials = pd.read_csv(run.folder / "trials.csv")
    accepted = trials[trials["state"].isin(["completed", "failed"])]
    two = {key: len(run.genotype(key).streams) == 2 for key in set(accepted["genotype"])}
    streams = accepted["genotype"].map(two)
    assert streams.nunique() == 2  # otherwise this run tells nothing
    rows = table(page, "Components: share of every choice")
    place = next(number for number, row in enumerate(rows) if row[0].startswith("Number of streams"))
    line = next(row for row in rows[place:] if row[0] == "2")
    final = accepted[(accepted["group"] == "final") & (accepted["state"] == "completed")]
    inside, outside = (final[streams[final.index] == here]["inner_uf1"] for here in (True, False))
    assert line[2] == f"{streams.mean() * 100:.0f}%"
    assert line[3] == str(len(inside))
    assert line[4:6] == [printed(inside.mean()) if len(inside) else "–", printed(outside.mean())]
    if len(inside) > 1 and len(outside) > 1:
        assert line[7] == printed(math.sqrt(inside.var() / len(inside) + outside.var() / len(outside)))


@pytest.fixture(scope="module")
def mixed(
    toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> FinishedRun:
    """A search in which two slots hold one component or none; that of attention is in one kind of block only."""
    folder = tmp_path_factory.mktemp("mixed")
    rules = toy_space.read_text().replace("mixing: none", "mixing: [mixup]")
    rules = rules.replace("attention: none", "attention: [se]")
    rules = rules.replace("block: [convolution, residual]", "block: [convolution, pooling]")
    rules = "\n".join(line for line in rules.splitlines() if "block.residual" not in line)
    (folder / "mixed.yaml").write_text(rules)
    asked = {**small, "trials": 8, "batch": 4, "sampler": "random"}
    return open_run(run_search(toy(), space=folder / "mixed.yaml", out=folder / "run", **asked).folder)


@pytest.mark.parametrize(("title", "component"), [("Mixtures of clips", "mixup"), ("Attention inside a block", "se")])
def test_a_slot_that_is_filled_or_empty_is_a_question_with_two_answers(
    mixed: FinishedRun, title: str, component: str
) -> None:
    trials = pd.read_csv(mixed.folder / "trials.csv")
    accepted = trials[trials["state"].isin(["completed", "failed"])]
    texts = {key: json.dumps(mixed.genotype(key).complete()) for key in set(accepted["genotype"])}
    filled = accepted["genotype"].map(lambda key: f'"{component}"' in texts[key])
    assert filled.nunique() == 2  # otherwise this run tells nothing
    final = accepted[(accepted["group"] == "final") & (accepted["state"] == "completed")]
    scores = {here: final[filled[final.index] == here]["inner_uf1"] for here in (True, False)}
    page = read(report_files(mixed)["report.html"].decode())
    rows = table(page, "Components: share of every choice")
    place = next(number for number, row in enumerate(rows) if row[0].startswith(title))
    lines = {row[0]: row for row in rows[place + 1 : place + 3]}
    for name, here in ((component.replace("_", " "), True), ("none", False)):
        assert lines[name][2] == f"{(filled == here).mean() * 100:.0f}%"
        assert lines[name][3] == str(len(scores[here]))
        assert lines[name][4:6] == [
            printed(scores[one].mean()) if len(scores[one]) else "–" for one in (here, not here)
        ]
    unvaried = [node.text for node in page.find("li") if ": " in node.text]
    assert not any(line.startswith(title) for line in unvaried)
    assert "Averages of the weights: none" in unvaried


def test_draws_and_costs_add_up(run: FinishedRun, page: Node) -> None:
    draws = sum(int(row[1].replace(",", "")) for row in table(page, "What became of the draws"))
    assert draws == len(pd.read_csv(run.folder / "trials.csv"))
    costs = {row[0]: row[1:] for row in table(page, "Trainings and their time")}
    jobs = list(run.jobs())
    assert costs["all"][0] == f"{len(jobs):,}"
    assert float(costs["all"][2].replace(",", "")) == pytest.approx(sum(job.seconds for job in jobs), abs=0.06)


def test_every_chosen_pipeline_stands_in_words_as_a_drawing_and_as_yaml(run: FinishedRun, page: Node) -> None:
    choices = pd.read_csv(run.folder / "choices.csv", keep_default_na=False)
    cards = [node for node in page.find("details") if node.attributes.get("id", "").startswith("pipeline-")]
    said = {}
    for card in cards:
        (yaml,) = card.find("pre")
        genotype = parse_genotype(yaml.text)
        said[genotype.hash] = card
        assert genotype.hash in card.find("summary")[0].text
        assert len([node for node in card.find("svg") if "diagram" in node.attributes["class"]]) == 1
        assert [heading for heading, _ in describe(genotype).parts] == [node.text for node in card.find("dt")]
    assert set(said) == set(choices["genotype"])
    final = choices[(choices["group"] == "final") & (choices["rule"] == "best")]["genotype"].item()
    assert "Final study's choice" in said[final].find("summary")[0].text


# The page


def test_hostile_names_stay_text(hostile: FinishedRun) -> None:
    text = report_files(hostile)["report.html"].decode()
    page = read(text)
    assert not page.find("img")
    assert len(page.find("script")) == 2
    assert not [name for node in page.walk() for name in node.attributes if name.startswith("on")]
    shown = "".join(node.text for node in page.find("main"))
    assert shown.count(HOSTILE) > 10
    assert HOSTILE not in text
    assert HOSTILE not in make_report([hostile, hostile])


def test_names_are_escaped_in_the_tables_for_papers(hostile: FinishedRun) -> None:
    files = report_files(hostile)
    markdown, latex = files["tables.md"].decode(), files["tables.tex"].decode()
    assert HOSTILE in re.sub(r"\\(.)", r"\1", markdown)
    assert not re.search(r"(?<!\\)<", markdown)
    assert not re.search("[<>]", latex)
    assert f"data {HOSTILE}".replace("<", r"\textless{}").replace(">", r"\textgreater{}") not in markdown


@pytest.fixture(scope="module", params=["report", "comparison"])
def either(request: pytest.FixtureRequest, run: FinishedRun, other: FinishedRun) -> str:
    return make_report([run] if request.param == "report" else [run, other])


def test_nothing_is_asked_of_any_server(either: str) -> None:
    page = read(either)
    loading = ("src", "srcset", "data", "action", "formaction", "poster", "background", "xlink:href")
    for node in page.walk():
        assert not set(node.attributes) & set(loading), node.tag
        assert node.attributes.get("href", "#").startswith("#")
        assert node.tag not in ("link", "iframe", "object", "embed", "base", "form")
    outside = set(re.findall(r"\b(?:https?:)?//[\w.-]+\.\w+[^\s\"'<)]*", either))
    assert outside <= {"http://www.w3.org/2000/svg"}  # the name of a namespace; nothing is loaded from it
    assert "url(" not in either
    assert "@import" not in either


def test_the_policy_allows_the_style_and_the_script_of_the_page_and_nothing_else(either: str) -> None:
    page = read(either)
    (policy,) = [
        node.attributes["content"]
        for node in page.find("meta")
        if node.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for kind, tag in (("style-src", "style"), ("script-src", "script")):
        (own,) = [node.text for node in page.find(tag) if node.attributes.get("type") is None]
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert rules[kind] == f"'sha256-{digest}'"
    assert not [node.tag for node in page.walk() if "style" in node.attributes]
    assert not [name for node in page.walk() for name in node.attributes if name.startswith("on")]


def test_the_page_is_well_formed_for_screen_readers(either: str) -> None:
    page = read(either)
    ids = [node.attributes["id"] for node in page.walk() if "id" in node.attributes]
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    wanted = {node.attributes["href"][1:] for node in page.find("a")}
    wanted |= {name for node in page.walk() for name in node.attributes.get("aria-labelledby", "").split()}
    assert wanted <= set(ids)
    levels = [int(node.tag[1]) for node in page.walk() if re.fullmatch("h[1-6]", node.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    assert [len(page.find(tag)) for tag in ("main", "nav", "header", "footer")] == [1, 1, 1, 1]
    assert page.find("html")[0].attributes["lang"] == "en"
    for one in page.find("table"):
        assert one.find("caption")
        assert all(cell.attributes.get("scope") for cell in one.find("th"))
    for picture in page.find("svg"):
        named = picture.attributes.get("aria-label") or any(title.text for title in picture.find("title"))
        assert named or picture.attributes.get("aria-hidden") == "true"
    for node in page.walk():
        if node.attributes.get("tabindex") == "0" and node.tag != "summary":
            assert node.attributes.get("aria-label"), node.attributes


def test_every_mark_of_the_front_says_its_figures_and_its_pipeline(run: FinishedRun, page: Node) -> None:
    charts = [node for node in page.find("svg") if "front-chart" in node.attributes.get("class", "")]
    assert ["narrow" in chart.attributes["class"] for chart in charts] == [False, True]
    for chart in charts:
        marks = [node for node in chart.find("g") if "mark" in node.attributes.get("class", "").split()]
        tips = [node.attributes["data-tip"] for node in marks]
        best = run.tables.rules.set_index("rule").loc["best"]
        (tip,) = [tip for tip in tips if re.search(r"\bbest\b", tip.partition("\n")[0])]
        assert f"nested UF1 {printed(best['nested_uf1'])}" in tip
        assert "selection score" in tip
        assert describe(run.genotype(best["genotype"])).short in tip
        assert len([node for node in marks if "baseline" in node.attributes["class"]]) == len(run.tables.baselines)
        assert all(node.attributes["aria-label"] and node.attributes["tabindex"] == "0" for node in marks)


def test_marks_stand_where_their_figures_are(run: FinishedRun, page: Node) -> None:
    chart = next(node for node in page.find("svg") if "front-chart wide" in node.attributes.get("class", ""))
    place = {
        key: float(chart.attributes[f"data-{key}"]) for key in ("top", "bottom", "low-y", "high-y", "left", "right")
    }

    def score(y: float) -> float:
        share = (place["bottom"] - y) / (place["bottom"] - place["top"])
        return place["low-y"] + share * (place["high-y"] - place["low-y"])

    marks = [node for node in chart.find("circle") if node.attributes["class"] == "nested-mark"]
    drawn = sorted(score(float(node.attributes["cy"])) for node in marks)
    rows = {tuple(sorted((s, c.genotype) for s, c in row.choices.items())): row for row in run.rows}
    nested = [*run.tables.front["nested_uf1"], *run.tables.rules["nested_uf1"]]
    figures = {id(row): value for row, value in zip(run.rows, nested, strict=True)}
    assert drawn == pytest.approx(sorted(figures[id(row)] for row in rows.values()), abs=0.001)
    low, high = (float(chart.attributes[f"data-{key}"]) for key in ("low-x", "high-x"))
    dots = "".join(node.attributes["d"] for node in chart.find("path") if "dots" in node.attributes.get("class", ""))
    sizes = [
        10 ** (low + (float(x) - place["left"]) / (place["right"] - place["left"]) * (high - low))
        for x in re.findall(r"M(\S+) ", dots)
    ]
    trials = run.tables.trials
    own = trials[(trials["group"] == "final") & (trials["state"] == "completed")]["params"]
    assert sorted(sizes) == pytest.approx(sorted(own.astype(float)), rel=0.01)


def test_a_proposed_preset_is_drawn_and_named_a_selection_score(run: FinishedRun) -> None:
    trials = run.tables.trials.copy()
    first = trials[(trials["group"] == "final") & (trials["state"] == "completed")].index[0]
    trials.loc[first, "origin"] = "preset someone2020"
    changed = read(make_report([replace(run, tables=replace(run.tables, trials=trials))]))
    tips = [node.attributes.get("data-tip", "") for node in changed.walk()]
    assert sum(tip.startswith("Preset someone2020\ninner UF1") for tip in tips) == 2  # wide and narrow
    assert table(changed, "Presets that were proposed")[0][0] == "someone2020"


def test_the_same_run_gives_the_same_bytes_in_another_process(
    run: FinishedRun, files: dict[str, bytes], tmp_path: Path
) -> None:
    assert set(files) == {
        "report.html", "front.png", "front.svg", "tables.md", "tables.tex", "audit.json", "calibration.csv",
    }  # fmt: skip
    code = (
        "import sys; from pathlib import Path; from mernas.search.finished import open_run\n"
        "from mernas.search.report import report_files\n"
        "for name, content in report_files(open_run(sys.argv[1])).items():\n"
        "    (Path(sys.argv[2]) / name).write_bytes(content)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "5", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, str(run.folder), str(tmp_path)], check=True, env=environment)
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


def test_a_report_of_five_thousand_trials_is_small_and_quickly_made(
    run: FinishedRun, toy_space: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = load_space(toy_space, run.plan.dataset.provides)
    drawn = {genotype.hash: genotype for genotype in (space.suggest(RandomTrial(seed)) for seed in range(5000))}
    chance = random.Random(1)
    keys = sorted(drawn)
    lines = [
        {
            "group": study, "number": number, "batch": number // 8, "place": number % 8, "state": "completed",
            "origin": "tpe", "params": int(10 ** chance.uniform(2, 6)), "inner_uf1": chance.betavariate(6, 4),
            "genotype": keys[number % len(keys)],
        }
        for study in run.plan.studies
        for number in range(5000)
    ]  # fmt: skip
    trials = pd.DataFrame(lines).astype({"params": "Int64"})
    ledger = replace(run.ledger, genotypes={**run.ledger.genotypes, **drawn})
    large = replace(run, tables=replace(run.tables, trials=trials), ledger=ledger)
    start = time.perf_counter()
    text = make_report([large])
    seconds = time.perf_counter() - start
    size = len(text.encode()) / 1e6
    with capsys.disabled():
        print(f"\n5,000 trials in each of {len(run.plan.studies)} studies: {size:.2f} MB, {seconds:.1f} s")
    assert size < 5
    assert seconds < 60  # on a machine that does other things as well
    data = json.loads(re.findall(r'id="trials">(.*?)</script>', text, re.DOTALL)[0])
    assert len(data["params"]) == 5000
    assert sum(chunk.count("M") for chunk in re.findall(r'<path d="([^"]*)" class="dots many"', text)) == 10_000


# Several runs


def test_paired_differences_are_those_of_resampled_subjects(run: FinishedRun, other: FinishedRun) -> None:
    found = {one.title: one for one in paired_differences(run, other)}
    labels, subjects = run.plan.dataset.labels, [clip.subject for clip in run.plan.dataset.clips]
    tables = [pd.read_csv(one.folder / "predictions.csv", keep_default_na=False) for one in (run, other)]
    names = list(run.plan.dataset.classes)

    def repetitions(which: pd.DataFrame) -> list[np.ndarray]:
        own = which[which["rule"] == "best"].sort_values("clip")
        return [part["prediction"].map(names.index).to_numpy() for _, part in own.groupby("seed")]

    mine, theirs = repetitions(tables[1]), repetitions(tables[0])
    assert (len(mine), len(theirs)) == (2, 1)
    rng = np.random.default_rng([run.plan.settings.seed, 4])
    homes: dict[str, list[str]] = {}
    for subject in sorted(set(subjects)):
        homes.setdefault(subject.split("/")[0], []).append(subject)

    def score(rows: np.ndarray, one: np.ndarray) -> float:
        return float(f1_score(labels[rows], one[rows], labels=range(len(names)), average="macro", zero_division=0))

    differences = []
    while len(differences) < 200:
        taken = [own[place] for own in homes.values() for place in rng.integers(0, len(own), size=len(own))]
        rows = np.concatenate([np.flatnonzero(np.array(subjects) == subject) for subject in taken])
        if len(set(labels[rows])) == len(names):
            differences.append(np.mean([score(rows, one) for one in mine]) - score(rows, theirs[0]))
    every = np.arange(len(labels))
    value = np.mean([score(every, one) for one in mine]) - score(every, theirs[0])
    assert found["best"].value == pytest.approx(value, abs=1e-12)
    # The first 200 of the 2,000 resamples: the ends of the interval agree as far as so few can tell.
    assert [found["best"].low, found["best"].high] == pytest.approx(np.percentile(differences, [2.5, 97.5]), abs=0.08)


def test_a_run_minus_itself_is_nothing(run: FinishedRun) -> None:
    for one in paired_differences(run, run):
        assert (one.value, one.low, one.high) == (0, 0, 0)
        assert one.verdict == "equal in every resample"


def test_a_difference_whose_end_is_near_zero_shows_on_which_side_it_lies() -> None:
    assert Difference("best", -0.05, -0.1, -0.00004).verdict == "behind: the interval lies below zero"
    assert difference_span(-0.1, -0.00004) == "[−.10000, −.00004]"
    assert Difference("best", 0.0, 0.0, 0.1).verdict == "not told apart: the interval covers zero"
    assert difference_span(0.0, 0.1) == "[.000, .100]"
    assert Difference("best", -1e-17, -0.1, -1e-17).verdict == "not told apart: the interval covers zero"  # rounding
    assert difference_span(-0.1, -1e-17) == "[−.100, .000]"


def test_a_comparison_says_what_was_searched_and_what_stopped_candidates(run: FinishedRun, other: FinishedRun) -> None:
    raced = replace(other, plan=replace(other.plan, settings=replace(other.plan.settings, racing=True, halving=True)))
    lines = table(read(make_report([run, raced])), "The runs")
    assert [line[4] for line in lines] == [one.plan.space_name for one in (run, raced)]
    assert [line[5] for line in lines] == ["tpe", "random, racing, halving"]


def test_a_comparison_holds_the_figures_of_all_runs(run: FinishedRun, other: FinishedRun) -> None:
    page = read(make_report([run, other]))
    cells = {row[0]: row[1:] for row in table(page, "Nested UF1 with its 95% interval")}
    for place, one in enumerate((run, other)):
        best = one.tables.rules.set_index("rule").loc["best"]
        assert cells["best"][place].startswith(printed(best["nested_uf1"]))
        assert f"[{printed(best['ci_low'])}, {printed(best['ci_high'])}]" in cells["best"][place]
    differences = {row[0]: row[1:] for row in table(page, "Difference in nested UF1")}
    expected = next(one for one in paired_differences(run, other) if one.title == "best")
    assert differences["best"][1] == f"[{printed(expected.low)}, {printed(expected.high)}]"


def test_the_page_names_the_clips_and_labels_as_the_plan_does(run: FinishedRun) -> None:
    stated = run.plan.description["data"]
    assert f"{stated['content']}, {stated['labels']}" in make_report([run])


def test_a_comparison_has_budgets_in_order_whichever_run_has_them(run: FinishedRun, other: FinishedRun) -> None:
    missing = other.chosen.front[0]
    fewer = replace(
        run,
        chosen=replace(run.chosen, front=run.chosen.front[1:]),
        tables=replace(run.tables, front=run.tables.front.iloc[1:]),
    )
    rows = [row[0] for row in table(read(make_report([fewer, other])), "Nested UF1 with its 95% interval")]
    budgets = [row for row in rows if row.startswith("≤")]
    assert f"≤{format_size(missing.budgets[0])}" in budgets
    assert budgets == sorted(budgets, key=lambda title: parse_size(title[1:]))
    assert rows[: len(budgets)] == budgets


def test_budgets_that_one_run_merges_are_compared_one_by_one(run: FinishedRun, other: FinishedRun) -> None:
    row, line = run.chosen.front[0], run.tables.front.iloc[[0]].assign(budget="300+3000")
    merged = replace(
        run,
        chosen=replace(run.chosen, front=(replace(row, budgets=(300, 3000)),)),
        tables=replace(run.tables, front=line),
    )
    titles = [one.title for one in paired_differences(merged, other)]
    assert titles[:2] == ["≤300", "≤3k"]


def test_runs_on_other_clips_or_labels_are_not_paired_and_it_says_why(run: FinishedRun, hostile: FinishedRun) -> None:
    page = read(make_report([run, hostile]))
    said = "".join(node.text for node in page.find("main"))
    assert "No paired differences: the classes differ" in said
    dataset = run.plan.dataset
    swapped = dataset.annotations.copy()
    swapped["emotion"] = swapped["emotion"].map(dict(zip(dataset.classes, reversed(dataset.classes), strict=True)))
    relabelled = replace(run, plan=replace(run.plan, dataset=replace(dataset, annotations=swapped)))
    text = make_report([run, relabelled])
    assert "on the same clips with different labels" in text


# Words, drawings, files


def test_every_component_can_be_said() -> None:
    space = load_space("full", frozenset({"frames", "onset", "apex", "given flow", "given strain"}))
    leaves = {}
    for seed in range(100):
        genotype = space.suggest(RandomTrial(seed))
        assert describe(genotype).short
        assert all(text.endswith(".") for _, text in describe(genotype).parts)
        leaves.update({(leaf.axis, leaf.name): leaf for leaf in genotype.root.walk()})
    assert ("block", "residual") in leaves
    for leaf in leaves.values():
        assert say(leaf).title


def test_a_component_of_a_third_party_is_named_by_its_settings() -> None:
    from dataclasses import dataclass

    from mernas.space.genotype import from_plain
    from mernas.space.parameters import integer

    @register("augmentation", "salt_and_pepper")
    @dataclass(frozen=True)
    class Salt:
        """Adds noise."""

        grains: int = integer(1, 9, default=3, doc="how many")

    try:
        plain = {
            "streams": [{"input": "apex_frame", "backbone": ["residual"]}],
            "tasks": [{"emotion": {}}], "loss": ["cross_entropy"], "augmentation": [{"salt_and_pepper": {"grains": 5}}],
        }  # fmt: skip
        genotype = from_plain(plain)
        assert dict(describe(genotype).parts)["Augmentation"] == "Salt and pepper (grains 5)."
        assert "grains 5" in draw_pipeline(genotype, 3, "it")
    finally:
        REGISTRY.remove("augmentation", "salt_and_pepper")


def test_a_drawing_has_every_block_of_every_stream_and_the_shapes_between() -> None:
    text = """
    streams:
    - {input: {apex_frame: {size: 28}}, backbone: [{convolution: {width: 8, pool: max2}}, {residual: {width: 16}}]}
    - {input: {apex_frame: {size: 14}}, backbone: [{convolution: {width: 4, pool: none}}], readout: flatten}
    tasks: [{emotion: {head: linear}}]
    loss: cross_entropy
    """
    drawing = ElementTree.fromstring(str(draw_pipeline(parse_genotype(text), 5, "it")))
    said = Counter("".join(node.itertext()) for node in drawing.iter("text"))
    assert said["Convolution"] == 2
    assert said["Residual block"] == 1
    for shape in ("1 × 28 × 28", "8 × 14 × 14", "16 × 7 × 7", "4 × 14 × 14", "784 values", f"{16 * 9 + 784} values"):
        assert said[shape] == 1, shape
    assert said["5 probabilities"] == 1
    width = float(drawing.attrib["viewBox"].split()[2])
    assert all(float(box.attrib["x"]) + float(box.attrib["width"]) <= width for box in drawing.iter("rect"))


def test_pictures_are_png_and_svg_of_the_same_figure(files: dict[str, bytes]) -> None:
    assert files["front.png"].startswith(b"\x89PNG")
    drawing = ElementTree.fromstring(files["front.svg"])
    assert drawing.tag.endswith("svg")
    assert not re.search(r"<dc:date>", files["front.svg"].decode())


def test_tables_for_papers_hold_the_figures(run: FinishedRun, files: dict[str, bytes]) -> None:
    best = run.tables.rules.set_index("rule").loc["best"]
    cell = f"{printed(best['nested_uf1'])} [{printed(best['ci_low'])}, {printed(best['ci_high'])}]"
    assert re.search(rf"^\| best \|.*\| {re.escape(cell)} \|", files["tables.md"].decode(), re.MULTILINE)
    latex = files["tables.tex"].decode()
    assert re.search(rf"^best & .* & {re.escape(cell)} & ", latex, re.MULTILINE)
    assert latex.count("\\begin{tabular}") == latex.count("\\end{tabular}") == 3
    for text in (files["tables.md"].decode(), latex):
        assert "no estimate" in text
        assert run.plan.hash in text


def test_calibration_table_has_the_shipped_temperature(files: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "calibration.csv").write_bytes(files["calibration.csv"])
    read_back = pd.read_csv(tmp_path / "calibration.csv", dtype=str, keep_default_na=False)
    own = read_back[(read_back["row"] == "best") & (read_back["study"] == "final")]
    assert float(own[own["measure"] == "temperature"]["value"].item()) > 0
    assert len(own[own["measure"] == "threshold"]) == 4


def test_one_run_is_rebuilt_in_its_folder_and_several_are_compared(
    run: FinishedRun, files: dict[str, bytes], other: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.folder / "report.html").unlink(missing_ok=True)
    written = report_command([run.folder])
    assert {path.name: path.read_bytes() for path in written} == files
    monkeypatch.chdir(tmp_path)
    assert report_command([run.folder, other.folder]) == (Path("comparison.html"),)
    assert "Comparison of 2 searches" in (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert report_command([run.folder], tmp_path / "one.html") == (tmp_path / "one.html",)
    assert (tmp_path / "one.html").read_bytes() == files["report.html"]


def test_what_is_no_finished_run_is_refused_all_at_once(run: FinishedRun, tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        report_command([run.folder, run.folder, tmp_path / "nothing"], tmp_path / "out.html")
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "out.html").exists()
    with pytest.raises(PlanError, match="must be a file"):
        report_command([run.folder], tmp_path)


def test_repetitions_are_means_and_it_says_so(other: FinishedRun) -> None:
    page = read(make_report([other]))
    said = "".join(node.text for node in page.find("main"))
    assert "means over 2 repetitions" in said
    labels = other.plan.book.labels
    row = other.chosen.rules[0]
    right = (repeated_predictions(other.plan, other.record, row) == labels).mean(axis=0).sum()
    title = next(t for t in said.split("Confusion matrix") if t)
    assert title
    rows = table(page, "Clips predicted right, by subject")
    (found,) = [t for t in page.find("table") if any("Clips predicted right" in c.text for c in t.find("caption"))]
    heads = [cell.text for cell in found.find("thead")[0].find("th")]
    column = next(number for number, head in enumerate(heads) if "best" in head.split(" = "))
    assert sum(float(line[column]) for line in rows) == pytest.approx(right)
