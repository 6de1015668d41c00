"""A user's mistake: one message each, all at once, with the nearest known names."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest

import mernas.components  # noqa: F401
from mernas.space.catalogue import EVERYTHING
from mernas.space.errors import MernasError, Problem, SpaceError, UnavailableError, UnknownNameError
from mernas.space.genotype import from_complete, parse_genotype
from mernas.space.parameters import Choices, choice, integer
from mernas.space.presets import load_preset
from mernas.space.registry import Registry, register
from mernas.space.restriction import load_space, rules_of
from mernas.space.suggestion import RandomTrial
from mernas.space.taxonomy import APEX, FRAMES, GIVEN_FLOW, GIVEN_STRAIN, OFFSET, ONSET
from mernas.space.yaml_text import dump_yaml, load_yaml

MAPS = frozenset({GIVEN_FLOW, GIVEN_STRAIN})
REST = "tasks: [{emotion: {head: linear}}]\nloss: cross_entropy\n"


def messages(error: pytest.ExceptionInfo[MernasError]) -> list[str]:
    return [str(problem) for problem in error.value.problems]


def mistakes(path: Path, facts: frozenset[str] = MAPS) -> list[str]:
    """What a space file is refused for."""
    with pytest.raises(SpaceError) as error:
        load_space(path, facts)
    return messages(error)


def test_all_mistakes_of_a_genotype_are_told_at_once_with_the_nearest_names() -> None:
    text = """
    streams: [{input: {optical_flwo: {}}, backbone: [{convolutoin: {}}, {residual: {widht: 3}}]}]
    tasks: [{emotion: {head: {mlp: {hidden: 1}}}}]
    loss: cross_entropi
    """
    with pytest.raises(SpaceError) as error:
        parse_genotype(text, "mine.yaml")
    told = "\n".join(messages(error))
    assert len(messages(error)) == 5
    for name in ('"optical_flow"', '"convolution"', '"width"', '"cross_entropy"', "[8, 4096]"):
        assert name in told
    assert all(message.startswith("mine.yaml") for message in messages(error))


def test_a_missing_part_is_named_with_what_could_stand_there() -> None:
    with pytest.raises(SpaceError) as error:
        parse_genotype(f"streams: [{{backbone: [residual]}}]\n{REST}")
    (message,) = messages(error)
    assert "an input is missing" in message.replace("a input", "an input")
    assert "apex_frame" in message
    assert "optical_flow" in message


def test_yaml_that_is_none_is_told_with_its_place() -> None:
    with pytest.raises(SpaceError, match="line 3, column 1"):
        load_yaml("a: 1\nb: [1, 2\n", "broken.yaml")


def test_yaml_cannot_run_code() -> None:
    with pytest.raises(SpaceError):
        load_yaml("!!python/object/apply:os.system ['true']", "evil.yaml")


def test_yaml_is_of_version_1_2() -> None:
    assert load_yaml("{a: 1e-3, b: off, c: 012, d: yes}") == {"a": 0.001, "b": "off", "c": 12, "d": "yes"}


def test_a_repeated_key_is_refused() -> None:
    with pytest.raises(SpaceError):
        load_yaml("{a: 1, a: 2}")


def test_all_mistakes_of_a_space_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "extends: full\nkeep: {inputt: [optical_flow], block: [residul]}\ndorp: {}\n"
        "set:\n  training.scratch: {epochs: {low: 1, high: 5000}, epoch: 3}\n  block.convolution: {kernel: 4}\n"
    )
    told = mistakes(path)
    assert len(told) == 6
    for name in ('"input"', '"residual"', '"drop"', '"epochs"', "never widens", "one of 1, 3, 5, 7"):
        assert name in "\n".join(told)


def test_a_space_file_that_leaves_nothing_says_so(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("keep: {loss: [cross_entropy]}\ndrop: {loss: [cross_entropy]}\n")
    with pytest.raises(SpaceError, match="leaves no component"):
        load_space(path, MAPS)


def test_a_component_to_keep_that_the_extended_space_lacks_is_a_mistake_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("keep: {block: [dense, convolution], input: [apex_frame, bi_woof], head: [lineer, capsule]}\n")
    told = mistakes(path)
    remedy = "Write `extends: full`, which begins with every component in its full range, or leave it out."
    absent = ('block "dense"', 'input "bi_woof"', 'head "capsule"')
    expected = [f"{path}, keep, {name}: is not in standard, which this file extends. {remedy}" for name in absent]
    assert [message for message in told if "is not known" not in message] == expected
    (unknown,) = (message for message in told if message not in expected)
    assert 'head "lineer": is not known. Did you mean "linear"' in unknown


def test_a_single_component_to_keep_that_the_extended_space_lacks_is_not_called_none(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("keep: {block: [dense]}\n")
    (message,) = mistakes(path)
    assert 'block "dense": is not in standard' in message
    (tmp_path / "wide.yaml").write_text("extends: full\nkeep: {block: [dense]}\n")
    assert load_space(tmp_path / "wide.yaml", MAPS).names("block") == ("dense",)
    (tmp_path / "own.yaml").write_text("extends: wide.yaml\nkeep: {block: [dense, convolution]}\n")
    with pytest.raises(SpaceError, match=r'block "convolution": is not in wide\.yaml, which this file extends'):
        load_space(tmp_path / "own.yaml", MAPS)


def test_a_component_to_keep_may_be_one_that_the_data_at_hand_cannot_have(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("keep: {flow_estimator: [dis, given], input: [apex_frame, optical_flow]}\n")
    assert load_space(path, MAPS).names("input") == ("apex_frame", "optical_flow")
    path.write_text("extends: full\nkeep: {flow_estimator: [given, tvl1]}\n")  # tvl1 needs an extra
    assert load_space(path, MAPS).names("flow_estimator") == ("given", "tvl1")


def test_a_rule_for_a_component_that_the_space_lacks_is_a_mistake_and_never_passes_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "keep: {head: [linear]}\ndrop: {block: [residual]}\n"
        "set:\n  block.dense: {growth: 8}\n  block.residual: {width: 8}\n  head.mlp: {hidden: 8}\n"
    )
    told = mistakes(path)
    assert len(told) == 3
    assert f"{path}, set, block.dense: is not in standard, which this file extends. Write `extends: full`" in told[0]
    for message, name in zip(told[1:], ("block.residual", "head.mlp"), strict=True):
        assert message.startswith(f"{path}, set, {name}: narrows what the same file does not keep, or drops")


def test_what_one_file_narrows_another_that_extends_it_may_drop(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("set: {block.residual: {width: 8}}\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\ndrop: {block: [residual]}\n")
    space = load_space(tmp_path / "b.yaml", MAPS)
    own = tmp_path / "own.yaml"
    own.write_text(dump_yaml(rules_of(space)), encoding="utf-8")
    assert load_space(own, MAPS).describe() == space.describe()


def test_a_list_leaves_its_values_of_a_range_and_a_range_its_part_of_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "set:\n  preprocessing.magnify: {alpha: [8, 4, 4.5]}\n  training.scratch: {epochs: [10, 20]}\n"
        "  input.apex_frame: {size: {low: 40}}\n"
    )
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nset: {preprocessing.magnify: {alpha: {high: 5}}}\n")
    (tmp_path / "c.yaml").write_text("extends: a.yaml\nset: {preprocessing.magnify: {alpha: 8}}\n")
    space = load_space(tmp_path / "a.yaml", EVERYTHING)
    assert space.limits["preprocessing", "magnify", "alpha"] == Choices((4.0, 4.5, 8.0))
    assert space.limits["training", "scratch", "epochs"] == Choices((10, 20))
    assert space.limits["input", "apex_frame", "size"] == Choices((42, 56))
    narrower = [load_space(tmp_path / f"{name}.yaml", EVERYTHING) for name in "bc"]
    alphas = [each.limits["preprocessing", "magnify", "alpha"] for each in narrower]
    assert alphas == [Choices((4.0, 4.5)), Choices((8.0,))]
    own = tmp_path / "own.yaml"
    own.write_text(dump_yaml(rules_of(space)), encoding="utf-8")
    assert load_space(own, EVERYTHING).describe() == space.describe()
    proposed = [space.suggest(RandomTrial(seed)) for seed in range(40)]
    trained = [genotype.root["training"] for genotype in proposed]
    assert {training["epochs"] for training in trained if training.name == "scratch"} == {10, 20}
    assert all(genotype in space for genotype in proposed)


def test_a_list_never_widens_and_neither_does_a_range_of_listed_numbers(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "set:\n  preprocessing.magnify: {alpha: [4, 100, x], high: []}\n  pipeline.network: {streams: [1, 2]}\n"
        "  input.apex_frame: {size: {low: 30, high: 40}}\n  input.onset_apex: {size: {high: 90}}\n"
    )
    told = mistakes(path, EVERYTHING)
    assert len(told) == 5
    for part in ("100, 'x'", "nothing", "[1, 2]", "must leave one of 28, 42, 56", "[28, 56], as a value"):
        assert part in "\n".join(told)


SHIPPED_FILES = sorted(
    path
    for folder in ("space/spaces", "docs/spaces", "benchmarks")
    for path in (Path(__file__).parents[2] / folder).glob("*.yaml")
)


@pytest.mark.parametrize("path", SHIPPED_FILES, ids=lambda path: path.stem)
def test_every_space_file_that_is_shipped_loads_and_so_does_the_file_that_a_run_keeps_of_it(
    path: Path, tmp_path: Path
) -> None:
    space = load_space(path, EVERYTHING)
    own = tmp_path / "own.yaml"
    own.write_text(dump_yaml(rules_of(space)), encoding="utf-8")
    assert load_space(own, EVERYTHING).describe() == space.describe()


def test_space_files_extend_each_other_and_not_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: full\nset: {training.scratch: {epochs: {low: 3, high: 9}}}\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nset: {training.scratch: {epochs: {high: 5}}}\n")
    space = load_space(tmp_path / "b.yaml", MAPS)
    low_high = space.limits[("training", "scratch", "epochs")]
    assert (low_high.low, low_high.high) == (3, 5)  # type: ignore[union-attr]
    (tmp_path / "c.yaml").write_text("extends: c.yaml\n")
    with pytest.raises(SpaceError, match="extends itself"):
        load_space(tmp_path / "c.yaml", MAPS)
    (tmp_path / "d.yaml").write_text(f"extends: ../{tmp_path.name}/d.yaml\n")  # another spelling of its own name
    with pytest.raises(SpaceError, match="extends itself"):
        load_space(tmp_path / "d.yaml", MAPS)


def test_what_the_data_cannot_give_is_called_unavailable_with_its_need() -> None:
    space = load_space("full", MAPS)
    genotype = parse_genotype(f"streams: [{{input: apex_frame, backbone: [residual]}}]\n{REST}")
    (problem,) = space.problems(genotype)
    assert "unavailable: needs" in str(problem)
    assert "frames" in str(problem)


def test_everything_that_the_data_lack_is_told_where_not_one_input_fits_them() -> None:
    text = f"""
    streams:
      - {{input: apex_frame, preprocessing: [crop], backbone: [residual]}}
      - {{input: {{optical_flow: {{estimator: farneback}}}}, backbone: [residual]}}
      - {{input: landmark_graph, backbone: [graph_convolution], readout: mean_nodes}}
    {REST.replace("loss", "    loss")}"""
    problems = load_space("full", frozenset({FRAMES})).problems(parse_genotype(text))
    onset_apex = "the onset frame of every clip; the apex frame of every clip"
    lack = "which these data lack. Use other data or leave it out."
    told = sorted(str(problem).partition(".")[2].partition(".")[2] for problem in problems)  # without streams.N
    assert told == [
        f'input, input "apex_frame": unavailable: needs the apex frame of every clip, {lack}',
        f'input, input "landmark_graph": unavailable: needs {onset_apex}; the 68 landmarks of every frame, {lack}',
        f'input.optical_flow.estimator, flow_estimator "farneback": unavailable: needs {onset_apex}, {lack}',
        'preprocessing.0, preprocessing "crop": unavailable: needs the onset frame of every clip; the 68 landmarks of '
        f"every frame, {lack}",
    ]


def test_a_space_without_an_input_that_fits_says_what_its_inputs_need_and_which_others_would_fit(
    tmp_path: Path,
) -> None:
    def told(name: str | Path, *facts: str) -> str:
        with pytest.raises(SpaceError) as error:
            load_space(name, frozenset(facts)).suggest(RandomTrial(0))
        (message,) = messages(error)
        return message

    rule = "streams.0: no stream of this space fits the data"
    flow = 'input "optical_flow" needs onset and apex, or given flow and given strain'
    add = "Add to the data what one of these needs"
    assert told("quick", FRAMES) == f"{rule}: {flow}, found data that provide frames. {add}."
    found = "found data that provide frames, offset, onset"
    others = "dynamic_image, flow_sequence, lbp_top or sequence"
    flow = flow.replace("onset and apex", "apex")
    assert told("quick", FRAMES, ONSET, OFFSET) == f"{rule}: {flow}, {found}. {add}, or take a space that has {others}."
    path = tmp_path / "space.yaml"
    path.write_text("keep: {input: [apex_frame, onset_apex]}\n")
    wanted = 'input "apex_frame" needs frames and apex; input "onset_apex" needs frames, onset and apex'
    assert f"{rule}: {wanted}, found" in told(path, *MAPS)


def test_flip_is_offered_only_where_the_zero_of_the_flow_is_known() -> None:
    flow = "{{input: {{optical_flow: {{estimator: {}, centre: {}}}}}, backbone: [residual]}}"
    rest = f"{REST}augmentation: [flip]\n"
    given = load_space("full", MAPS)
    stretched = parse_genotype(f"streams: [{flow.format('given', 'none')}]\n{rest}")
    centred = parse_genotype(f"streams: [{flow.format('given', 'median')}]\n{rest}")
    measured = parse_genotype(f"streams: [{flow.format('farneback', 'none')}]\n{rest}")
    assert len(given.problems(stretched)) == 1
    assert given.problems(centred) == []
    assert load_space("full", frozenset({FRAMES, ONSET, APEX})).problems(measured) == []


def test_another_version_of_a_component_is_refused_by_name() -> None:
    complete = load_preset("ststnet").genotype.complete()
    complete[2]["training"][1] = 99
    with pytest.raises(SpaceError, match=r'training "scratch".*version 99'):
        from_complete(complete)


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="ststnet"):
        load_preset("ststnt")


def test_a_registry_refuses_duplicates_and_faulty_declarations() -> None:
    registry = Registry()

    @register("head", "one", registry=registry)
    @dataclass(frozen=True)
    class One:
        """A head."""

        width: int = integer(1, 4, default=2)

    with pytest.raises(SpaceError, match="registered already"):
        register("head", "one", registry=registry)(One)
    with pytest.raises(SpaceError) as error:

        @register("heed", "a.b", needs={"framez"}, registry=registry)
        @dataclass(frozen=True)
        class Faulty:
            """Wrong in many ways."""

            width: int = integer(4, 1, default=2)
            shape: str = choice("a", default="b")

    told = "\n".join(messages(error))
    for part in ('"head"', '"."', '"frames"', "low <= high", "one of a"):
        assert part in told


def test_errors_travel_between_processes() -> None:
    error = UnavailableError([Problem("a", "b", "c", "d"), "e"])
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert isinstance(again, RuntimeError)


def test_mistakes_in_an_inactive_part_are_told(tmp_path: Path) -> None:
    text = f"streams: [{{input: optical_flow, backbone: [residual]}}]\n{REST}"
    with pytest.raises(SpaceError, match="concatenation"):
        parse_genotype(f"{text}fusion: concatenatoin\n")
    assert parse_genotype(f"{text}fusion: concatenation\n") == parse_genotype(text)


@pytest.mark.parametrize("value", ["1" + "0" * 400, ".nan", ".inf", "-.inf", "true", "[1]", "null"])
def test_values_that_are_no_ordinary_number_are_told(value: str) -> None:
    rest = REST.replace("cross_entropy", f"{{cross_entropy: {{smoothing: {value}}}}}")
    with pytest.raises(SpaceError, match="smoothing: must be a number in"):
        parse_genotype(f"streams: [{{input: optical_flow, backbone: [residual]}}]\n{rest}")


def test_yaml_nested_without_end_is_told() -> None:
    with pytest.raises(SpaceError, match="nested too deeply"):
        load_yaml("[" * 5000, "deep.yaml")
