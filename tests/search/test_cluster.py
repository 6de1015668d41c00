"""A cluster of three machines, here three node processes of Ray: the same ledger, also when one dies in mid-run."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mernas.search.run import SearchResult

_SPEC = importlib.util.spec_from_file_location("resume", Path(__file__).with_name("test_resume.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
resume = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(resume)

# The driver has a process of its own, so that Ray in this one is left alone. Each worker writes a line when it starts a
# job and one when it ends it. Once `trap` names a node, a job that starts there hangs until that node is gone.
MARKS = """
import os, time
from pathlib import Path
import ray
from mernas.search import ray_worker

FOLDER, original = Path(os.environ["MERNAS_TEST_MARKS"]), ray_worker.run_job

def write(*words):
    with (FOLDER / "marks.txt").open("a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

def marked(job, store, memory=None):
    node = ray.get_runtime_context().get_node_id()
    trap = FOLDER / "trap.txt"
    caught = trap.exists() and trap.read_text() == node
    write("caught" if caught else "start", job.key, node)
    while caught:
        time.sleep(1)
    outcome = original(job, store, memory)
    write("end", job.key, node)
    return outcome

if not hasattr(original, "marked"):
    marked.marked = True
    ray_worker.run_job = marked
"""
CHILD = """
import importlib.util, json, sys, threading, time
from pathlib import Path

conftest, test_resume, space, root, small = sys.argv[1:6]

def load(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

toy, resume = load(conftest), load(test_resume)
root, small = Path(root), json.loads(small)

from mernas.search import ray_executor  # before Ray: it sets its environment
from mernas.search.run import run_search
from ray.cluster_utils import Cluster

MACHINE = {"num_cpus": 1, "object_store_memory": 80 * 1024**2}
# A machine that is lost is noticed within seconds instead of half a minute.
SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 4}
cluster = Cluster(initialize_head=True, head_node_args={**MACHINE, "include_dashboard": False, "_system_config": SOON})
nodes = [cluster.add_node(wait=False, **MACHINE) for _ in range(2)]
cluster.wait_for_nodes(60)


class Reporter(resume.Counter):
    said, killing = [], None

    def advance(self):
        super().advance()
        if len(self.done) >= 60 and self.killing is None:
            self.killing = threading.Thread(target=self.kill)
            self.killing.start()

    def say(self, text):
        self.said.append(text)

    def kill(self):
        (root / "part").write_text(nodes[0].node_id)
        (root / "part").rename(root / "trap.txt")
        while not (root / "marks.txt").read_text().count("caught"):
            time.sleep(0.05)
        self.before = len(self.done)
        cluster.remove_node(nodes[0], allow_graceful=False)


class Marking(ray_executor.RayExecutor):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, imports=("marks",), **named)

ray_executor.RayExecutor = Marking
reporter = Reporter([])
run_search(toy.make_toy(), space=space, out=root / "run", cache=root / "cache", reporter=reporter,
           **{**small, "executor": "ray", "address": cluster.address, "workers": 3})
told = {"node": nodes[0].node_id, "before": reporter.before, "done": len(reporter.done), "said": reporter.said}
(root / "told.json").write_text(json.dumps(told))
cluster.shutdown()
"""


@dataclass(frozen=True)
class Story:
    """What happened in the child.

    Attributes:
        folder: The run, which had three machines and lost one of them after sixty jobs.
        told: What the driver saw.
        marks: (event, job, node), in order.
    """

    folder: Path
    told: dict[str, Any]
    marks: list[tuple[str, str, str]]

    def jobs(self, event: str) -> Counter[str]:
        """How often an event befell each job."""
        return Counter(job for what, job, _ in self.marks if what == event)


@pytest.fixture(scope="module")
def story(toy_space: Path, small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    root = tmp_path_factory.mktemp("cluster")
    (root / "marks.py").write_text(MARKS)
    conftest = Path(__file__).resolve().parents[1] / "conftest.py"
    with tempfile.TemporaryDirectory(prefix="ray") as scratch:  # a short path: Ray's sockets lie in it
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
            "MERNAS_TEST_MARKS": str(root),
            "RAY_TMPDIR": scratch,
        }
        command = [sys.executable, "-c", CHILD, conftest, _SPEC.origin, toy_space, root, json.dumps(small)]
        with (root / "child.txt").open("w") as output:
            subprocess.run(
                list(map(str, command)), env=environment, stdout=output, stderr=output, timeout=300, check=False
            )
        said = (root / "child.txt").read_text()
        assert (root / "told.json").exists(), said[-5000:]
        marks = [line.split() for line in (root / "marks.txt").read_text().splitlines()]
        yield Story(root / "run", json.loads((root / "told.json").read_text()), [(a, b, c) for a, b, c in marks])


def recorded(folder: Path, column: str) -> list[Any]:
    database = sqlite3.connect(folder / "ledger.sqlite")
    found = [row[0] for row in database.execute(f"SELECT {column} FROM jobs")]
    database.close()
    return found


def test_three_machines_and_a_loss_give_the_ledger_and_the_tables_of_one_process(
    story: Story, finished: SearchResult
) -> None:
    resume.check_same(finished.folder, story.folder)
    assert len(set(recorded(story.folder, "host"))) >= 3


def test_a_machine_lost_in_mid_run_costs_the_job_under_way_on_it_and_nothing_else(story: Story) -> None:
    keys = recorded(story.folder, "key")
    assert 60 <= story.told["before"] < len(keys)
    assert story.told["done"] == len(keys)
    # The one job that hung there was started again elsewhere, every other one was started once.
    assert sum(story.jobs("caught").values()) == 1
    assert story.jobs("start") == Counter(keys)
    assert story.jobs("end") == Counter(keys)
    place = next(number for number, (event, _, _) in enumerate(story.marks) if event == "caught")
    (caught,) = story.jobs("caught")
    assert ("start", caught) in {(event, job) for event, job, _ in story.marks[place:]}
    assert any(node == story.told["node"] for event, _, node in story.marks[:place] if event == "end")
    assert all(node != story.told["node"] for _, _, node in story.marks[place + 1 :])


def test_a_lost_machine_is_not_counted_against_its_jobs(story: Story) -> None:
    assert set(recorded(story.folder, "attempts")) == {1}
    assert set(recorded(story.folder, "failure")) == {""}
    assert story.told["said"] == []
