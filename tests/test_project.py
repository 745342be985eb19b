"""The house: notebooks and package in step, imports one way, catalogue sound, nothing of this machine inside."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

BOOK = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["book"]["chapters"]
PAGES = [c for part in BOOK for c in (part["chapters"] if isinstance(part, dict) else [part])]
NOTEBOOKS = [ROOT / p for p in PAGES if p.endswith(".ipynb")]  # in the order of the book, which is that of the rooms


def cells(path, kind="code"):
    return [
        (c, "".join(c["source"]))
        for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == kind
    ]


def module_of(path):
    return next(re.search(r"default_exp (\w+)", s)[1] for _, s in cells(path) if "default_exp" in s)


def test_package_is_what_the_notebooks_export(tmp_path):
    import shutil

    for name in ("nbs", "avianspec", "settings.ini", "README.md"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    for module in (tmp_path / "avianspec").glob("*.py"):
        if module.name != "__init__.py":
            module.unlink()
    subprocess.run(
        [
            sys.executable,
            "-c",
            "from nbdev.export import nb_export\nfrom nbdev.doclinks import nbdev_export\nnbdev_export()",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    exported = {p.name: p.read_text(encoding="utf-8") for p in (tmp_path / "avianspec").glob("*.py")}
    tracked = {p.name: p.read_text(encoding="utf-8") for p in (ROOT / "avianspec").glob("*.py")}
    assert exported == tracked, "run `make export` and commit the result"


def test_rooms_import_only_from_rooms_before_them():
    order = [module_of(p) for p in NOTEBOOKS]
    for k, module in enumerate(order):
        tree = ast.parse((ROOT / "avianspec" / f"{module}.py").read_text(encoding="utf-8"))
        used = {
            n.module.split(".")[-1]
            for n in ast.walk(tree)
            if isinstance(n, ast.ImportFrom) and n.level == 1 and n.module
        }
        used |= {
            a.name
            for n in ast.walk(tree)
            if isinstance(n, ast.ImportFrom) and n.level == 1 and not n.module
            for a in n.names
        }
        assert used <= set(order[:k]), f"{module} imports {used - set(order[:k])}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_lesson_library_and_job(path):
    nb = json.loads(path.read_text(encoding="utf-8"))
    assert (nb["nbformat"], nb["nbformat_minor"]) >= (4, 5) and len({c["id"] for c in nb["cells"]}) == len(nb["cells"])
    assert nb["cells"][0]["cell_type"] == "markdown" and re.match(r"# .+\n\n> .+", "".join(nb["cells"][0]["source"]))
    code = cells(path)
    exports = [i for i, (_, s) in enumerate(code) if s.lstrip().startswith("#| export")]
    tagged = [i for i, (c, _) in enumerate(code) if "parameters" in c["metadata"].get("tags", [])]
    assert exports and len(tagged) == 1 and tagged[0] > exports[-1], "the parameters stand below all export cells"
    assert not [line for line in code[tagged[0]][1].splitlines() if line.count("=") > 1], (
        "papermill passes over a parameter with a second equals sign in its line"
    )
    for node in ast.parse(code[tagged[0]][1]).body:
        assert isinstance(node, ast.Assign) and len(node.targets) == 1
        ast.literal_eval(node.value)
    assert max(len(code[i][1].splitlines()) for i in exports) <= 60
    assert path.stat().st_size < 1_500_000


def test_exported_code_has_no_assert_and_no_bare_except():
    for path in (ROOT / "avianspec").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), path
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), path


def test_every_public_function_says_what_it_does():
    for path in (ROOT / "avianspec").glob("[!_]*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_every_experiment_is_complete_and_its_notebooks_take_its_parameters():
    from avianspec.runs.runner import check_parameters, load_catalogue, make_plan, notebook_parameters

    catalogue = load_catalogue()
    wanted = "report v16 v17 v18 v20 final loop minimum-length loud-frames loud-frames-buffer mfcc two-branches deeper augment search"
    assert {f"birds-{name}" for name in wanted.split()} <= set(catalogue)
    for experiment in catalogue.values():
        for smoke in (False, True):
            plan = make_plan(experiment, smoke=smoke)
            known = check_parameters(plan.notebooks, plan.parameters, ROOT / "nbs")
            assert (
                set(known)
                == set(experiment.smoke_notebooks if smoke and experiment.smoke_notebooks else experiment.notebooks)
                <= set(experiment.notebooks)
            )
        assert all("run_dir" in notebook_parameters(ROOT / "nbs" / f"{n}.ipynb") for n in experiment.notebooks)


def test_the_table_of_contents_lists_every_notebook_and_only_pages_that_exist():
    assert PAGES[0] == "index.qmd" and all((ROOT / p).exists() for p in PAGES)
    assert {p.name for p in NOTEBOOKS} == {p.name for p in (ROOT / "nbs").glob("*.ipynb")}


def test_modules_before_the_models_do_not_load_tensorflow():
    names = ", ".join(f"avianspec.{module_of(p)}" for p in NOTEBOOKS if p.stem[:2] < "06" or p.stem[:2] > "08")
    code = f"import {names}, sys; print([m for m in ('tensorflow', 'keras', 'torch', 'jax') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
    )


def test_no_path_of_a_machine_in_tracked_files():
    files = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True).stdout.split(
        "\0"
    )
    if files == [""]:
        pytest.skip("not a git clone: nothing says which files are tracked")
    places = [str(ROOT) + "/", str(Path.home()) + "/"]
    for name in filter(None, files):
        path = ROOT / name
        if path.suffix in (".png", ".mp3") or not path.exists():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not [p for p in places if p in text], name


def test_a_fresh_clone_holds_all_that_its_pages_include(tmp_path):
    from avianspec.report.book import convert_book
    import shutil

    for name in ("_quarto.yml", "index.qmd", "nbs", "report"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    convert_book(tmp_path, tmp_path / "myst")  # raises where an include or a reference leads nowhere
    headline = (tmp_path / "myst" / "index.md").read_text(encoding="utf-8")
    assert "By recordist" in headline and "{{<" not in headline
