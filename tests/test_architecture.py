"""Rules of the house that neither the type checker nor the linters see."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from arraycal.config.loading import load_preset, preset_path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("flows", "tasks", "calib", "config")
SOURCE_FOLDERS = (*PACKAGES, "arraycal/face", "benchmarks", "deployments")

# Who besides config/settings.py may name the environment, and why.
MAY_NAME_THE_ENVIRONMENT = {
    "flows/service/environment.py": "passes its own on to the server and the worker it starts",
    "flows/cli/main.py": "sets Prefect's start-up time-out before Prefect is imported",
    "tasks/one_thread.py": "sets the threads of polars in a new process before polars is imported",
}

# In two pieces each, so that this file does not accuse itself.
MACHINE_PATHS = tuple("/" + name + "/" for name in ("work", "root", "tmp"))


def python_files(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def relative(path):
    return path.relative_to(ROOT).as_posix()


def offences(predicate, *folders):
    """`file:line` of each syntax node for which the predicate holds."""
    return [
        f"{relative(path)}:{node.lineno}"
        for path in python_files(*folders)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        if isinstance(node, ast.stmt | ast.expr | ast.keyword) and predicate(node)
    ]


def tracked_files():
    """What git has or would take; without git, everything outside the folders that make creates."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        names = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        folders = [*SOURCE_FOLDERS, "tests", "docs", ".ci"]
        names = [path for folder in folders for path in (ROOT / folder).rglob("*")]
        names += ROOT.glob("*.*")
    return sorted(path for path in names if path.is_file())


def dotted(node):
    """`a.b.c` of a name or attribute chain, else the empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value)):
        return f"{owner}.{node.attr}"
    return ""


def imported_names(node):
    """Full names that an import statement binds or passes through."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def names_the_environment(node):
    environment = {"os.environ", "os.environb", "os.getenv", "os.getenvb"}
    if isinstance(node, ast.Attribute):
        return dotted(node) in environment
    return not environment.isdisjoint(imported_names(node))


def runs_text_as_code(node):
    forbidden = {"eval", "exec", "builtins.eval", "builtins.exec"}
    return isinstance(node, ast.Call) and dotted(node.func) in forbidden


def loads_yaml_objects(node):
    forbidden = {f"yaml.{name}" for name in ("load", "load_all", "unsafe_load", "full_load")}
    if isinstance(node, ast.Call):
        return dotted(node.func) in forbidden
    return not forbidden.isdisjoint(imported_names(node))


def pickles(node):
    roots = {name.partition(".")[0] for name in imported_names(node)}
    if not roots.isdisjoint({"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve"}):
        return True
    return isinstance(node, ast.keyword) and node.arg == "allow_pickle"


def test_nobody_else_provides_our_import_name():
    providers = set(importlib.metadata.packages_distributions().get("arraycal", ()))
    assert providers <= {"arraycal"}, f"`import arraycal` may find {sorted(providers)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_package_is_made_of_the_folders_at_the_top(package):
    link = ROOT / "arraycal" / package
    assert link.is_symlink()
    assert link.resolve() == ROOT / package


def test_no_name_means_two_things():
    defined: dict[str, list[str]] = {}
    for path in python_files(*PACKAGES):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                defined.setdefault(node.name, []).append(relative(path))
    twice = {name: places for name, places in defined.items() if len(places) > 1}
    # A task or a flow bears the name of what it wraps; alembic wants one name in every revision.
    assert {name for name, places in twice.items() if not _wraps(places)} <= {"upgrade"}


def _wraps(places):
    wrappers = [place for place in places if place.startswith(("flows/", "tasks/"))]
    return len(places) - len(wrappers) <= 1


def test_no_file_in_flows_hides_a_package():
    # Prefect puts flows/ first on sys.path and loads a flow file under its stem.
    taken = {
        *PACKAGES,
        *sys.stdlib_module_names,
        *importlib.metadata.packages_distributions(),
    }
    hiding = [path for path in python_files("flows") if path.stem in taken - {"__init__"}]
    assert not hiding


def test_flow_modules_keep_their_annotations_alive():
    def postpones_annotations(node):
        return "__future__.annotations" in imported_names(node)

    assert not offences(postpones_annotations, "flows")


def test_no_text_is_run_as_code():
    assert not offences(runs_text_as_code, *SOURCE_FOLDERS)


def test_yaml_is_loaded_safely():
    assert not offences(loads_yaml_objects, *SOURCE_FOLDERS)


def test_nothing_is_pickled():
    assert not offences(pickles, *SOURCE_FOLDERS)


def test_only_the_settings_read_the_environment():
    found = {place.partition(":")[0] for place in offences(names_the_environment, *PACKAGES)}
    assert found <= {"config/settings.py", *MAY_NAME_THE_ENVIRONMENT}


@pytest.mark.parametrize("name", MAY_NAME_THE_ENVIRONMENT)
def test_no_permission_to_name_the_environment_is_out_of_date(name):
    if not (ROOT / name).exists():
        pytest.skip(f"{name} is not written yet")
    assert any(place.startswith(f"{name}:") for place in offences(names_the_environment, *PACKAGES))


def test_test_folders_are_no_packages():
    # tests/flows/__init__.py would make `import flows` find the tests.
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_packages_are_packages():
    # A folder without __init__.py is a namespace, to which anything on sys.path may add.
    folders = {path.parent for path in python_files(*PACKAGES)}
    assert [relative(path) for path in folders if not (path / "__init__.py").is_file()] == []


def test_no_file_names_a_path_of_one_machine():
    pattern = re.compile("(?<![A-Za-z0-9_.$})])(" + "|".join(MACHINE_PATHS) + ")")
    naming = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        naming += [
            f"{relative(path)}:{number}"
            for number, line in enumerate(text.splitlines(), start=1)
            if pattern.search(line)
        ]
    assert not naming


@pytest.mark.parametrize(
    "file", sorted((ROOT / "config" / "presets").glob("*")), ids=lambda file: file.name
)
def test_whatever_lies_among_the_presets_is_one(file):
    assert preset_path(file.stem).samefile(file)
    load_preset(file.stem)
