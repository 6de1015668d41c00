"""The house around the code: packaging, import directions, sizes, and what the texts promise."""

import ast
import importlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
SUB_PACKAGES = ("space", "components", "evaluation", "search")
CODE = (*SUB_PACKAGES, "src/mernas")
FRONT_COMMAND = "python -m pip install -c constraints.txt . && mernas search"
TEST_COMMAND = (
    "python -m pip install -c constraints.txt -e '.[test]' && python -m pytest -n auto --maxprocesses 4 --dist loadfile"
)

# What each layer may not reach, lowest first: a module imports from its own layer and from those before it.
LAYERS = ("mernas.space", "mernas.components", "mernas.evaluation", "mernas.search", "mernas.cli", "mernas.__main__")
FOREIGN = {
    "mernas.space": {"torch", "ray", "optuna"},
    "mernas.components": {"ray", "optuna"},
    "mernas.evaluation": {"ray", "optuna"},
}
HEAVY = {"torch", "ray", "optuna", "pandas", "sklearn", "scipy", "matplotlib", "cv2"}


@cache
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def files() -> tuple[str, ...]:
    """The files of the project, as paths from its root: what git tracks or would track, else all that is no litter."""
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        names = {name for name in listing.split("\0") if name}
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive, or no git
        names = set()
        for folder, below, here in os.walk(ROOT):
            below[:] = [d for d in below if not (d.startswith(".") and d != ".ci") and not re.search(LITTER, d)]
            names |= {(Path(folder) / name).relative_to(ROOT).as_posix() for name in here if not name.endswith(".pyc")}
    # A newcomer's virtual environment may lie in the clone, under any name.
    environments = tuple(f"{found.parent.name}/" for found in ROOT.glob("*/pyvenv.cfg"))
    return tuple(sorted(name for name in names if (ROOT / name).is_file() and not name.startswith(environments)))


LITTER = r"^(build|dist|__pycache__|mernas-runs)$|\.egg-info$"


def code_files() -> list[str]:
    return [name for name in files() if name.endswith(".py") and name.startswith(tuple(f"{d}/" for d in CODE))]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def module_name(file: str) -> str:
    """`space/tree.py` is `mernas.space.tree`, `src/mernas/cli.py` is `mernas.cli`."""
    path = file.removeprefix("src/mernas/") if file.startswith("src/") else file
    return "mernas." + path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


# Packaging


def test_packages_of_pyproject_are_the_folders_that_hold_an_init() -> None:
    folders = {Path(name).parent.as_posix() for name in code_files() if name.endswith("/__init__.py")}
    expected = {"mernas" if folder == "src/mernas" else "mernas." + folder.replace("/", ".") for folder in folders}
    listed = project()["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == expected


def test_wheel_holds_exactly_the_files_of_the_tree(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77", reason="building a wheel needs setuptools")
    # A copy: a build inside the tree would leave build/lib and an egg-info behind, and a stale one of either hides a
    # package that pyproject.toml forgets.
    tree = tmp_path / "tree"
    for name in files():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    made = subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=tree, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {name for name in files() if name.startswith(tuple(f"{folder}/" for folder in CODE))}
    expected = {name.removeprefix("src/") if name.startswith("src/") else f"mernas/{name}" for name in sources}
    assert packed == expected
    assert "mernas/py.typed" in packed


def test_every_direct_dependency_has_a_pin_that_pyproject_allows() -> None:
    lines = [line.partition("#")[0].strip() for line in read("constraints.txt").splitlines()]
    requirements = [Requirement(line) for line in lines if line]
    assert all(re.fullmatch(r"==[^+*]+", str(item.specifier)) for item in requirements), "pins are ==, without +local"
    pins = {canonicalize_name(item.name): str(item.specifier).removeprefix("==") for item in requirements}
    declared = project()["project"]
    extras = declared["optional-dependencies"]
    for text in (*declared["dependencies"], *(text for extra in extras.values() for text in extra)):
        wanted = Requirement(text)
        if wanted.name == "mernas":  # an extra that holds another one
            assert wanted.extras <= set(extras)
            continue
        assert canonicalize_name(wanted.name) in pins, f"constraints.txt has no pin for {wanted.name}"
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), f"{text} refuses its pin"


def test_every_library_that_is_imported_is_declared() -> None:
    declared = {canonicalize_name(Requirement(text).name) for text in project()["project"]["dependencies"]}
    extras = project()["project"]["optional-dependencies"]
    extra = {canonicalize_name(Requirement(text).name) for name in ("onnx", "tvl1") for text in extras[name]}
    owners = packages_distributions()
    undeclared = {
        f"{file}:{line} imports {name}"
        for file in code_files()
        for line, name in imports_of(file)
        if (top := name.partition(".")[0]) not in sys.stdlib_module_names
        and top != "mernas"
        and not {canonicalize_name(owner) for owner in owners.get(top, [])}
        # What an extra brings may only be imported where it is used: elsewhere nothing would work without it.
        & (declared | (extra if read(file).splitlines()[line - 1].startswith("    ") else set()))
    }
    assert not undeclared


def test_one_opencv_and_it_needs_no_window_libraries() -> None:
    wanted = [Requirement(text).name for text in project()["project"]["dependencies"]]
    assert [name for name in wanted if "opencv" in name] == ["opencv-python-headless"]


# Imports


def imported_by(action: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter has imported when it has done something."""
    # Not `-X importtime`: it leaves out what importlib.import_module imports.
    report = "import atexit, sys; atexit.register(lambda: print('imported:', *sys.modules, file=sys.stderr))"
    command = [sys.executable, "-c", f"{report}; {action}"]
    done = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True)
    said, _, modules = done.stderr.rpartition("imported:")
    assert done.returncode == 0, said
    return {module.partition(".")[0] for module in modules.split()}


def test_import_mernas_imports_nothing_heavy() -> None:
    assert not imported_by("import mernas") & HEAVY


@pytest.mark.parametrize("arguments", ["--help", "--version", "search --help", "evaluate --help"])
def test_help_imports_nothing_heavy(arguments: str) -> None:
    run = f"import runpy; sys.argv = ['mernas', *{arguments.split()}]; runpy.run_module('mernas', run_name='__main__')"
    imported = imported_by(run)
    assert "click" in imported
    assert not imported & HEAVY


def test_the_mernas_command_helps_and_imports_nothing_heavy() -> None:
    # What the installed script does, on every operating system.
    imported = imported_by(
        "from importlib.metadata import entry_points; sys.argv = ['mernas', '--help']; "
        "(entry,) = entry_points(group='console_scripts', name='mernas'); entry.load()()"
    )
    assert "click" in imported
    assert not imported & HEAVY


def test_every_public_name_of_mernas_can_be_had() -> None:
    mernas = importlib.import_module("mernas")
    missing = [name for name in mernas.__all__ if not hasattr(mernas, name)]
    assert not missing


def imports_of(file: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports; relative imports begin with a dot.

    After a bare `import mernas` it is what is taken from it, as in `mernas.__version__`, that counts.
    """
    for node in ast.walk(ast.parse(read(file), file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name != "mernas":
                    yield node.lineno, alias.name
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mernas":
            yield node.lineno, f"mernas.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            for alias in node.names:
                yield node.lineno, f"{prefix}.{alias.name}" if node.module else prefix + alias.name


def layer(name: str) -> int:
    """Where a name of mernas stands; the front door itself is highest, its version lowest."""
    if name == "mernas.__version__":
        return -1
    ranks = [rank for rank, prefix in enumerate(LAYERS) if name == prefix or name.startswith(f"{prefix}.")]
    return ranks[0] if ranks else len(LAYERS)


def import_faults(file: str) -> list[str]:
    faults = []
    own = module_name(file)
    for line, name in imports_of(file):
        top = name.partition(".")[0]
        if name.startswith("."):
            faults.append(f"{file}:{line} imports relatively: {name}")
        elif top in SUB_PACKAGES:
            faults.append(f"{file}:{line} imports {name} without `mernas.`")
        elif top == "mernas" and layer(name) > layer(own):
            faults.append(f"{file}:{line} reaches up to {name}")
        faults += [
            f"{file}:{line} imports {name}, which {folder} must not"
            for folder, foreign in FOREIGN.items()
            if (own == folder or own.startswith(f"{folder}.")) and top in foreign
        ]
    return faults


def test_imports_are_absolute_and_go_in_one_direction() -> None:
    assert code_files()
    assert not [fault for file in code_files() for fault in import_faults(file)]


def test_tests_and_benchmarks_import_by_the_installed_name() -> None:
    outside = [name for name in files() if name.endswith(".py") and name.startswith(("tests/", "benchmarks/"))]
    bare = [
        f"{file}:{line} imports {name}"
        for file in outside
        for line, name in imports_of(file)
        if name.partition(".")[0] in SUB_PACKAGES or name.startswith(".")
    ]
    assert not bare


def test_no_public_function_bears_the_name_of_a_sub_package() -> None:
    # It would hide the sub-package: `mernas.search` must mean one thing.
    named = [
        f"{file}:{node.lineno} {node.name}"
        for file in code_files()
        for node in ast.parse(read(file), file).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name in SUB_PACKAGES
    ]
    assert not named
    assert not set(importlib.import_module("mernas").__all__) & set(SUB_PACKAGES)


# Sizes and names


def test_no_file_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "base", "misc", "tools"}
    assert not [name for name in files() if name.endswith(".py") and Path(name).stem.strip("_") in vague]


def test_files_are_small_enough_to_read() -> None:
    lines = {file: read(file).count("\n") for file in code_files()}
    assert not {file: count for file, count in lines.items() if count > 500}
    assert statistics.median(count for count in lines.values() if count) < 200


def test_neither_tests_nor_the_root_are_packages() -> None:
    # Test files of one name in two folders then do not clash, and nothing in the root can shadow mernas.
    strange = [name for name in files() if name.startswith("tests/") and name.endswith("__init__.py")]
    assert not strange
    assert not [name for name in files() if name in ("__init__.py", "mernas/__init__.py")]


# Texts


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    pattern = re.compile(r"(?<![\w.~-])/(?:" + "|".join(("work", "home", "root", "Users")) + r")/")
    found = []
    for name in files():
        content = (ROOT / name).read_bytes()
        if b"\0" in content:
            continue  # not a text
        text = content.decode("utf-8")
        found += [f"{name}:{text.count(chr(10), 0, hit.start()) + 1}" for hit in pattern.finditer(text)]
    assert not found


def test_readme_and_ci_run_the_same_commands() -> None:
    readme, ci = read("README.md"), read(".ci/run")
    assert FRONT_COMMAND in readme.splitlines()
    assert TEST_COMMAND in readme.splitlines()
    install, tests = TEST_COMMAND.split(" && ")
    assert install.replace(".[test]", ".[test,dev]") in ci
    assert tests in ci
    assert os.access(ROOT / ".ci/run", os.X_OK)
    shell = subprocess.run(["bash", "-n", str(ROOT / ".ci/run")], capture_output=True, text=True)
    assert shell.returncode == 0, shell.stderr


def texts() -> list[str]:
    return [name for name in files() if name.endswith(".md")]


def test_version_is_the_same_everywhere() -> None:
    version = project()["project"]["version"]
    assert importlib.import_module("mernas").__version__ == version
    assert f"version: {version}" in read("CITATION.cff").splitlines()
    newest = re.search(r"^## \[(.+?)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == version


def test_links_between_the_texts_lead_somewhere() -> None:
    dead = []
    for name in texts():
        for target in re.findall(r"\]\(([^)\s]+)\)", read(name)):
            path = target.partition("#")[0]
            if path and "://" not in path and not ((ROOT / name).parent / path).exists():
                dead.append(f"{name} links to {target}")
    assert not dead


def commands_in_texts() -> dict[str, set[str]]:
    """Commands of mernas, and the options given to each, in the code blocks of all texts."""
    found: dict[str, set[str]] = {}
    for name in texts():
        for block in re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```", read(name), re.MULTILINE | re.DOTALL):
            for line in re.split(r"\n|&&|\|", block.replace("\\\n", " ")):
                words = line.partition("#")[0].split()
                if words[:1] == ["mernas"] and len(words) > 1:
                    options = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
                    command = "" if words[1].startswith("-") else words[1]
                    found.setdefault(command, set()).update(options)
    return found


@pytest.mark.parametrize("command", sorted(commands_in_texts()))
def test_every_option_in_the_texts_exists(command: str) -> None:
    arguments = [sys.executable, "-m", "mernas", *([command] if command else []), "--help"]
    help_text = subprocess.run(arguments, cwd=ROOT / "tests", capture_output=True, text=True)
    assert help_text.returncode == 0, help_text.stderr
    known = set(re.findall(r"--[a-z][a-z-]*", help_text.stdout))
    assert commands_in_texts()[command] <= known
