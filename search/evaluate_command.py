"""What `mernas evaluate` does: one evaluation from what a user typed, its scores on the screen, its file last."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mernas.search.evaluate import run_evaluation
from mernas.search.executor import Interrupted
from mernas.search.out_file import check_out_file, data_files, recordings, refuse_inputs
from mernas.search.printing import print_evaluation
from mernas.search.progress import Screen
from mernas.search.results import write_table
from mernas.search.run import load_data
from mernas.search.stopping import stopping_on_signal


def evaluate_command(
    pipeline: str,
    data: tuple[str, ...],
    protocol: str,
    out: Path | None,
    as_json: bool,
    say: Callable[[str], None],
    **options: Any,
) -> None:
    """Evaluate a pipeline, print the scores, and write the predictions where they are wanted.

    Args:
        pipeline: A preset, a baseline or a YAML file.
        data: As `load_data` takes them.
        protocol: The protocol's name.
        out: The file of the predictions; that it can be written is seen to before anything is trained.
        as_json: Whether to print JSON.
        say: Told what the loaders note.
        options: As for `run_evaluation`.

    Raises:
        MernasError: For every mistake of the user.
    """
    keep = options["keep"]
    if out is not None:
        out = check_out_file(out, [*data_files(data), pipeline], keep)
    with stopping_on_signal() as stopping, Screen() as screen:
        loaded = load_data(*data, say=say)
        if out is not None:
            refuse_inputs(out, recordings(loaded))
        try:
            result = run_evaluation(
                pipeline, loaded, protocol_name=protocol, reporter=screen, stopping=stopping, **options
            )
        except Interrupted:
            left = "give --keep to keep finished folds" if keep is None else f"{keep} holds the finished folds"
            screen.say(f"Stopped; {left}.")
            sys.exit(130)
    print_evaluation(result, as_json)  # first: whatever happens to the file, nobody trains twice to see a score
    if out is not None:
        write_table(out, result.predictions, "choose another file with --out")
