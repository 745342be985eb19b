"""A source distribution makes a wheel, and the wheel works wherever it is unpacked: no clone, no make."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
import yaml
from conftest import ROOT

from avianspec.files import read_json, write_json

TOLD = ("setup.py", "settings.ini", "MANIFEST.in", "LICENSE", "README.md", "constraints.txt", "Makefile", "ruff.toml")
STUDY = ("nbs", "experiments", "report", "_quarto.yml", "index.qmd")
LEFT = shutil.ignore_patterns(".*", "__pycache__", "*.pyc")


def build(folder, *words):
    command = [sys.executable, "setup.py", "-q", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return next((folder / "dist").iterdir())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "Path of the wheel that is made of the source distribution."
    folder = tmp_path_factory.mktemp("wheel")
    for name in (*TOLD, *STUDY, "avianspec"):
        whole = (ROOT / name).is_dir()
        shutil.copytree(ROOT / name, folder / name, ignore=LEFT) if whole else shutil.copy(ROOT / name, folder / name)
    (folder / "nbs" / ".ipynb_checkpoints").mkdir()
    (folder / "nbs" / ".ipynb_checkpoints" / "old.ipynb").touch()
    with tarfile.open(build(folder, "sdist")) as made:
        made.extractall(folder / "unpacked", filter="data")
    return build(next((folder / "unpacked").iterdir()), "bdist_wheel")


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    "Folder into which the wheel is unpacked."
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def typed(site, where, *words):
    "A command in an empty folder, of the unpacked wheel alone."
    code = "import sys; from avianspec.cli import main; sys.exit(main())"
    here = os.environ | {"PYTHONPATH": str(site), "AVIANSPEC_CACHE": str(where / "cache")}
    told = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=where, env=here, capture_output=True, encoding="utf-8"
    )
    assert told.returncode == 0, told.stderr
    return told


def files_of(folder):
    "Files that belong to a folder of the clone."
    found = (p for name in STUDY for p in [folder / name, *(folder / name).rglob("*")] if p.is_file())
    inside = (p.relative_to(folder) for p in found)
    return {p.as_posix() for p in inside if not any(part[0] == "." or part == "__pycache__" for part in p.parts)}


def test_the_wheel_holds_package_templates_notebooks_catalogue_pages_and_theme_and_nothing_else(wheel):
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    share = {n.removeprefix("avianspec/_share/") for n in names if n.startswith("avianspec/_share/")}
    assert share == files_of(ROOT) and "report/theme/avianspec.css" in share and "nbs/cli.ipynb" in share
    package = {p.relative_to(ROOT).as_posix() for p in (ROOT / "avianspec").rglob("*.*") if p.is_file()}
    package = {n for n in package if "__pycache__" not in n and "/_share/" not in n}
    assert (
        names - {f"avianspec/_share/{n}" for n in share} == package and "avianspec/report/templates/about.md" in package
    )
    assert wheel.stat().st_size < 20e6


CELLS = {
    "parameters": 'seed = 0  # int: of the draw\nrun_dir = ""  # str: folder of the run',
    "work": "import json, pathlib\n"
    "pathlib.Path(run_dir, 'data.json').write_text(json.dumps(dict(n_recordings=0, synthetic=True)))\n"
    "pathlib.Path(run_dir, 'drawn.csv').write_text(run_dir + '/a.wav')",
}


def little_notebook(path):
    "A notebook of a parameter cell and one that writes two results."
    cells = [
        dict(id=tag, cell_type="code", source=s, metadata=dict(tags=[tag]), execution_count=None, outputs=[])
        for tag, s in CELLS.items()
    ]
    kernel = dict(kernelspec=dict(name="python3", display_name="Python 3", language="python"))
    path.parent.mkdir()
    write_json(path, dict(nbformat=4, nbformat_minor=5, metadata=kernel, cells=cells))


def test_a_study_of_ones_own_begins_and_runs_from_the_wheel_and_keeps_its_runs_when_it_is_moved(site, tmp_path):
    told = typed(site, tmp_path, "new", "wrens", "--like", "birds-report").stdout
    assert "cd wrens && avianspec run birds-wrens --smoke" in told
    wrens, moved = tmp_path / "wrens", tmp_path / "moved"
    study = yaml.safe_load((wrens / "experiments" / "birds.yml").read_text(encoding="utf-8"))
    own = study["experiments"]["birds-wrens"]["notebooks"]
    assert own and all((wrens / "nbs" / f"{name}.ipynb").is_file() for name in own)
    study["experiments"] = {"birds-wrens": dict(purpose="draws", notebooks=["mine/draw"], parameters=dict(seed=1))}
    (wrens / "experiments" / "birds.yml").write_text(yaml.safe_dump(study), encoding="utf-8")
    little_notebook(wrens / "nbs" / "mine" / "draw.ipynb")
    told = typed(site, wrens, "run", "birds-wrens", "--quiet")
    (run,) = (wrens / "runs").glob("birds-wrens-*")
    assert told.stdout == f"{run} done\n" and told.stderr == ""
    manifest = read_json(run / "manifest.json")
    assert manifest["root"] == str(wrens) and manifest["git"]["revision"] == ""
    assert "mine/draw is done after" in (run / "log.txt").read_text(encoding="utf-8")
    wrens.rename(moved)
    assert "was done already" in typed(site, moved, "run", "birds-wrens", "--quiet").stdout
    assert (moved / "runs" / run.name / "drawn.csv").read_text() == f"{moved / 'runs' / run.name}/a.wav"


def test_a_run_elsewhere_leaves_the_package_as_it_was(site):
    assert not [
        p for p in site.rglob("*") if p.name in ("runs", "data", "_report") and p.parent.name in ("_share", site.name)
    ]
