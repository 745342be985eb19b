"""Notebooks side by side: what a run notes of them, one that fails, and a run that is killed in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from avianspec.files import read_json
from avianspec.runs import runner
from avianspec.runs.catalogue import Plan

STUDY = "avianspec.studies.birds.contract:STUDY"
META = """
import json, pathlib, time
run = pathlib.Path(run_dir)
"""
FIRST = META + '(run / "data.json").write_text(json.dumps(dict(n_recordings=0, synthetic=True)))'
MEET = """
(run / "{own}.txt").write_text("here")
for _ in range(1200):  # neither ends before both have begun
    if (run / "{other}.txt").exists():
        break
    time.sleep(0.1)
else:
    raise TimeoutError("{other} does not come")
"""


def notebook(path, work):
    "A notebook of two cells: its parameters, and its work."
    cells = [
        dict(id=tag, cell_type="code", source=s, metadata=dict(tags=[tag]), execution_count=None, outputs=[])
        for tag, s in (("parameters", 'run_dir = ""  # str: folder of the run'), ("work", work))
    ]
    kernel = dict(name="python3", display_name="Python 3", language="python")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(nbformat=4, nbformat_minor=5, metadata=dict(kernelspec=kernel), cells=cells)))
    return path


@pytest.fixture
def project(tmp_path, monkeypatch):
    "A project of three notebooks; the last two wait for each other, so that one alone cannot end."
    (tmp_path / "experiments").mkdir()
    (tmp_path / "settings.ini").touch()
    notebook(tmp_path / "nbs/lesson/first.ipynb", FIRST)
    for own, other in (("left", "right"), ("right", "left")):
        notebook(tmp_path / f"nbs/lesson/{own}.ipynb", META + MEET.format(own=own, other=other))
    study = SimpleNamespace(together=(("lesson/left", "lesson/right"),), missing=lambda parameters: "")
    monkeypatch.setattr(runner, "load_contract", lambda contract: study)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan():
    names = tuple(f"lesson/{name}" for name in ("first", "left", "right"))
    return Plan("meeting", "lesson", "two that meet", names, {}, "", {}, True, STUDY)


def test_steps_that_need_not_wait_are_done_together_and_pass_for_done(project):
    run, _ = runner.run_plan(plan(), progress=False)
    manifest = read_json(run / "manifest.json")
    first, left, right = manifest["steps"]
    assert [s["notebook"] for s in manifest["steps"]] == list(plan().notebooks)
    assert {s["status"] for s in manifest["steps"]} == {"done"} and all(s["finished"] for s in manifest["steps"])
    assert sorted(first["files"]) == ["data.json"]
    assert sorted(left["files"]) == sorted(right["files"]) == ["left.txt", "right.txt"]
    assert runner.run_plan(plan(), progress=False) == (run, False)
    (run / "right.txt").unlink()  # which of the two has left it is not known: both are done again
    assert runner.changed_steps(run) == ["lesson/left", "lesson/right"]
    assert runner.run_plan(plan(), progress=False)[1] and (run / "right.txt").exists()


FAILS = """
(run / "right.txt").touch()
for _ in range(1200):  # until the other is done
    if "lesson/left is done" in (run / "log.txt").read_text():
        break
    time.sleep(0.1)
raise ValueError("too few")
"""


def test_one_that_fails_beside_another_is_named_and_the_other_is_done(project):
    meets = (project / "nbs/lesson/right.ipynb").read_bytes()
    notebook(project / "nbs/lesson/right.ipynb", META + FAILS)
    with pytest.raises(runner.RunFailed, match=r"lesson/right: ValueError: too few .*see the executed notebook"):
        runner.run_plan(plan(), progress=False)
    run = project / "runs" / plan().name
    manifest, left = read_json(run / "manifest.json"), run / "notebooks/lesson/left.ipynb"
    assert manifest["status"] == "failed" and "lesson/right" in manifest["error"]
    assert [s["status"] for s in manifest["steps"]] == ["done", "done", "failed"]
    assert sorted(manifest["steps"][1]["files"]) == ["left.txt", "right.txt"]
    (project / "nbs/lesson/right.ipynb").write_bytes(meets)  # mended
    executed = left.stat().st_mtime_ns
    assert runner.run_plan(plan(), progress=False) == (run, True) and left.stat().st_mtime_ns == executed
    assert [s["status"] for s in read_json(run / "manifest.json")["steps"]] == ["done"] * 3


SCRIPT = """
from pathlib import Path
from avianspec.runs.execution import execute_together
here = Path({here!r})
list(execute_together([(here / f"{{k}}.ipynb", here / f"{{k}}.out.ipynb", {{}}, "", False) for k in range(2)]))
"""


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks for processes in /proc")
def test_nothing_works_on_when_the_run_is_killed(tmp_path):
    for k in range(2):
        said = tmp_path / f"{k}.pid"
        notebook(
            tmp_path / f"{k}.ipynb",
            f"import os, time\nopen({str(said)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)",
        )
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(here=str(tmp_path))])
    pids = [tmp_path / f"{k}.pid" for k in range(2)]

    def wait_until(true):
        for _ in range(1200):
            if true():
                return True
            time.sleep(0.1)
        return False

    assert wait_until(lambda: all(p.exists() and p.read_text() for p in pids))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert wait_until(lambda: not any(os.path.isdir(f"/proc/{p.read_text()}") for p in pids))
