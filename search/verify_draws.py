"""Draws and pipelines: whether every study proposed as the plan says, and no proposal is over the limit."""

from __future__ import annotations

from collections.abc import Sequence

from mernas.components.topologies.network import count_parameters
from mernas.search.ledger import ACCEPTED, DUPLICATE, EXHAUSTED, INFEASIBLE, PASSED_OVER, REPEATED, Draw
from mernas.search.plan import Plan
from mernas.search.verify_check import Check, listed
from mernas.search.verify_ledger import ReadLedger
from mernas.space.errors import SpaceError

STATES = (ACCEPTED, INFEASIBLE, DUPLICATE, REPEATED, PASSED_OVER, EXHAUSTED)


def check_genotypes(plan: Plan, ledger: ReadLedger, finished: bool, check: Check) -> None:
    """Check that every pipeline that counts is known and has the parameters that are stated."""
    accepted = {draw.genotype for draws in ledger.studies.values() for draw in draws if draw.state == ACCEPTED}
    baselines = {key for grid in plan.description["baselines"].values() for key in grid}
    for key in sorted({*accepted, *(baselines if finished else ())} - {None}, key=str):
        check.expect(key in ledger.sizes, f"genotype {key}", "no complete form", "one in the ledger")
    for key, genotype in sorted(ledger.genotypes.items()):
        kind = "network" if genotype.is_network else "classical"
        check.equal(f"genotype {key}, kind", ledger.kinds[key], kind)
        if not genotype.is_network:
            check.equal(f"genotype {key}, parameters", ledger.sizes[key], None)
        if genotype.is_network and key in accepted:
            try:
                count: int | None = count_parameters(genotype, len(plan.dataset.classes))
            except SpaceError:
                count = None
            check.equal(f"genotype {key}, parameters", ledger.sizes[key], count)


def check_draws(plan: Plan, ledger: ReadLedger, finished: bool, check: Check) -> None:
    """Check the numbering, batches, places, states and sizes of all draws."""
    strangers = set(ledger.studies) - set(plan.studies)
    check.expect(not strangers, "draws", f"studies {listed(strangers)}", f"studies {listed(plan.studies)}")
    trials = _trials(plan, ledger, check)
    for study in plan.studies:
        count = sum(draw.state in (ACCEPTED, EXHAUSTED) for draw in ledger.draws(study))
        if finished:
            check.equal(f"study {study}, trials that count", count, trials)
        else:
            check.expect(count <= trials, f"study {study}, trials that count", count, f"at most {trials}")
        _check_study(plan, ledger, study, plan.batches_until(trials), check)
    first = {study: [_content(draw) for draw in ledger.draws(study) if draw.batch == 0] for study in plan.studies}
    begun = [draws for draws in first.values() if draws]
    for study, draws in first.items():
        if draws:
            check.expect(
                draws == begun[0], f"study {study}, first batch", "other draws", "the same draws as in all studies"
            )


def _trials(plan: Plan, ledger: ReadLedger, check: Check) -> int:
    """How many trials every study has: those of the plan, or fewer where the time was up."""
    ended = ledger.about.get("trials")
    if ended is None:
        return plan.settings.trials
    limited = plan.settings.time is not None
    valid = limited and ended.isdigit() and 1 <= int(ended) < plan.settings.trials
    possible = f"1 to {plan.settings.trials - 1}, and only in a run of limited time"
    check.expect(valid, "ledger.sqlite, trials", ended, possible)
    return int(ended) if ended.isdigit() else plan.settings.trials


def _content(draw: Draw) -> tuple[object, ...]:
    return (draw.number, draw.place, draw.state, draw.origin, draw.genotype)


def _check_study(plan: Plan, ledger: ReadLedger, study: str, sizes: Sequence[int], check: Check) -> None:
    """Check all draws of one study, whose batches should have so many places."""
    draws = ledger.draws(study)
    numbers = [draw.number for draw in draws]
    check.equal(f"study {study}, numbers of its draws", numbers, list(range(len(draws))))
    batches = sorted({draw.batch for draw in draws})
    check.equal(f"study {study}, batches", batches, list(range(len(batches))))
    check.expect(
        all(0 <= batch < len(sizes) for batch in batches),
        f"study {study}, batches",
        batches,
        f"at most {len(sizes)}",
    )
    check.expect(
        [draw.batch for draw in draws] == sorted(draw.batch for draw in draws),
        f"study {study}, batches of its draws",
        "an earlier batch after a later one",
        "batches in order",
    )
    before: set[str | None] = set()
    for batch in batches:
        own = [draw for draw in draws if draw.batch == batch]
        if 0 <= batch < len(sizes):
            _check_batch(plan, ledger, own, sizes[batch], before, check)
        before |= {draw.genotype for draw in own if draw.state == ACCEPTED}


def _check_batch(
    plan: Plan, ledger: ReadLedger, draws: Sequence[Draw], size: int, before: set[str | None], check: Check
) -> None:
    """Check one batch of one study; `before` are the pipelines that it accepted in earlier batches."""
    place, here = 0, set[str | None]()
    study, batch = draws[0].study, draws[0].batch
    for draw in draws:
        where = f"study {study}, draw {draw.number}"
        check.equal(f"{where}, place", draw.place, place)
        check.expect(draw.state in STATES, f"{where}, state", draw.state, ", ".join(STATES))
        _check_size(plan, ledger, draw, where, check)
        if draw.state == ACCEPTED:
            check.expect(draw.genotype not in here | before, where, f"{draw.genotype} again", "a pipeline only once")
        elif draw.state == REPEATED:
            # An asynchronous study also redraws what an earlier proposal is still waiting for.
            known = here | before if plan.settings.asynchronous else here
            check.expect(draw.genotype in known, where, f"{draw.genotype} repeated", "one that its batch holds")
        elif draw.state == DUPLICATE:
            check.expect(draw.genotype in before, where, f"{draw.genotype} as duplicate", "one that its study holds")
        if draw.origin.startswith("preset "):
            name = draw.origin.removeprefix("preset ")
            check.equal(f"{where}, preset {name}", draw.genotype, plan.description["presets"].get(name))
        if draw.state == ACCEPTED:
            here.add(draw.genotype)
        place += draw.state in (ACCEPTED, EXHAUSTED)
    check.equal(f"study {study}, places filled of batch {batch}", place, size)


def _check_size(plan: Plan, ledger: ReadLedger, draw: Draw, where: str, check: Check) -> None:
    """Check that a draw has the size of its pipeline, and one that its state allows."""
    limit = plan.settings.max_parameters
    if draw.state == EXHAUSTED:
        check.expect(draw.genotype is None, where, draw.genotype, "no pipeline")
        return
    if not check.expect(draw.genotype in ledger.sizes, where, draw.genotype, "a pipeline of the ledger"):
        return
    check.equal(f"{where}, parameters", draw.parameters, ledger.sizes[draw.genotype or ""])
    fits = draw.parameters is not None and draw.parameters <= limit
    if draw.state == INFEASIBLE:
        check.expect(not fits, f"{where}, infeasible", draw.parameters, f"more than {limit}, or none")
    else:
        check.expect(fits, f"{where}, parameters", draw.parameters, f"at most {limit}")
