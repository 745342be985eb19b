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
    return next(re.search(r"default_exp ([\w.]+)", s)[1] for _, s in cells(path) if "default_exp" in s)


def texts(folder):
    return {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in folder.rglob("*.py")}


def test_package_is_what_the_notebooks_export(tmp_path):
    import shutil

    for name in ("nbs", "avianspec", "settings.ini", "README.md"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    for module in (tmp_path / "avianspec").rglob("*.py"):
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
    exported = texts(tmp_path / "avianspec")
    tracked = texts(ROOT / "avianspec")
    assert exported == tracked, "run `make export` and commit the result"


FOLDERS = [e["part"].lower() for e in BOOK if isinstance(e, dict)]
MODULES = [f"avianspec.{module_of(p)}" for p in NOTEBOOKS]


def names_imported(tree, module):
    "Modules of the package that some code loads: imports at the top, imports in functions, and names of modules as text."
    package, found = module.split(".")[:-1], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{a.name}" for a in node.names)}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            formatted = [a for a in ast.walk(node) if isinstance(a, ast.JoinedStr)]
            assert not formatted, f"{module} loads a module by a formatted name: {ast.unparse(node)}"
            found |= {a.value for a in ast.walk(node) if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


@pytest.mark.parametrize(
    "code, expected",
    [
        ("from .x import y", "avianspec.a.x"),
        ("def f():\n    from ..b import z", "avianspec.b.z"),
        ("def f():\n    import avianspec.b.z as q", "avianspec.b.z"),
        ("def f():\n    return import_module('avianspec.b.z')", "avianspec.b.z"),
    ],
)
def test_every_way_to_import_is_seen(code, expected):
    assert expected in names_imported(ast.parse(code), "avianspec.a.m")


@pytest.mark.parametrize("k", range(len(MODULES)), ids=MODULES)
def test_a_module_imports_only_from_modules_before_it(k):
    path = ROOT / (MODULES[k].replace(".", "/") + ".py")
    used = names_imported(ast.parse(path.read_text(encoding="utf-8")), MODULES[k]) & set(MODULES)
    assert used <= set(MODULES[:k]), f"{MODULES[k]} imports {sorted(used - set(MODULES[:k]))}, which come after it"


def test_folders_of_notebooks_and_package_and_parts_of_the_book_are_the_same():
    inside = {
        top: {p.name for p in (ROOT / top).iterdir() if p.is_dir() and p.name[0] not in "._"}
        for top in ("nbs", "avianspec")
    }
    assert inside["nbs"] == inside["avianspec"] == set(FOLDERS)
    standing = [p.relative_to(ROOT / "nbs").parts[0] for p in NOTEBOOKS if p.parent != ROOT / "nbs"]
    assert list(dict.fromkeys(standing)) == FOLDERS, "the chapters of a part lie in the folder of its name"
    for top in ("nbs", "avianspec"):
        entries = [
            p for p in (ROOT / top).iterdir() if p.name[0] != "." and p.name not in ("__pycache__", "_modidx.py")
        ]
        assert len(entries) <= 14


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / "nbs").with_suffix("").as_posix())
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
    for path in (ROOT / "avianspec").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), path
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), path


def test_every_public_function_says_what_it_does():
    for path in (ROOT / "avianspec").rglob("[!_]*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_every_experiment_is_complete_and_its_notebooks_take_its_parameters():
    from avianspec.runs.catalogue import check_parameters, load_catalogue, make_plan, notebook_parameters

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
    assert set(NOTEBOOKS) == {p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts}


def test_modules_before_the_models_do_not_load_tensorflow():
    light = [
        f"avianspec.learning.{m}" for m in ("tasks", "settings", "dataset", "generator", "predictions", "precision")
    ]
    names = ", ".join(m for m in MODULES if m.split(".")[1] not in ("learning", "scoring", "studies") or m in light)
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
