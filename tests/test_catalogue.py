"""Every entry of the catalogue runs to its end, small, with all its notebooks; what cannot be is refused at once."""

import re
from dataclasses import replace

import pandas as pd
import pytest
from conftest import ROOT

from avianspec.cli import _parser
from avianspec.files import read_json
from avianspec.runs.catalogue import load_catalogue, load_contract, make_plan
from avianspec.runs.runner import RunFailed, run_plan
from avianspec.synthetic.soundbox import make_soundbox

CATALOGUE = load_catalogue()
ONLY_REAL = {"birds-outside-zero-shot": "knows none of the labels"}  # can do nothing with invented birds, and says so
TESTED = {
    "birds-final",
    "music-compact",
    "speech-short",
    "tagging-ensemble",
    "transfer-random",
}  # in `make test`; all in `make test-all`
CASES = {name: (name, {}) for name, e in CATALOGUE.items() if e.family in ("", name)} | {  # variants share one form
    "birds-v20 without folds": ("birds-v20", dict(n_folds=0, seed=3)),
    "birds-published without folds": ("birds-published", dict(n_folds=0)),
    "music by clip": ("music-compact", dict(splits="clip")),
    "tagging, one label": ("tagging-ensemble", dict(task="single")),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    "Runs of one folder take over from one another what they have in common."
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def one_label(tmp_path_factory):
    "A tagging set whose clips have one label each."
    folder = make_soundbox(tmp_path_factory.mktemp("one_label") / "box", 40, progress=False)
    for path in folder.glob("*.csv"):
        table = pd.read_csv(path)
        if "labels" in table:
            table[~table.labels.str.contains(",")].to_csv(path, index=False)
    return folder


@pytest.mark.parametrize("case", [pytest.param(c, marks=[] if c in TESTED else pytest.mark.nightly) for c in CASES])
def test_an_entry_runs_to_its_end_with_all_its_notebooks(case, runs, one_label):
    name, changes = CASES[case]
    data = one_label if case == "tagging, one label" else ""
    plan = make_plan(replace(CATALOGUE[name], smoke_notebooks=()), data, smoke=True, changes=changes)
    if why := load_contract(plan.contract).missing(plan.parameters):
        pytest.skip(why)
    if name in ONLY_REAL and not data:
        with pytest.raises(RunFailed, match=ONLY_REAL[name]):
            run_plan(plan, runs, progress=False)
        return
    run, _ = run_plan(plan, runs, progress=False)
    manifest = read_json(run / "manifest.json")
    assert manifest["status"] == "done" and {s["status"] for s in manifest["steps"]} == {"done"}
    expected = [n for n in CATALOGUE[name].notebooks if not (data and n.startswith("synthetic/"))]
    assert [s["notebook"] for s in manifest["steps"]] == expected
    assert (run / "metrics.json").exists() or (run / "search.json").exists()


@pytest.mark.parametrize(
    "experiment, name, value, says",
    [
        ("birds-v20", "final_epochs", "abc", "final_epochs is a whole number of 1 or more; got 'abc'"),
        ("birds-v20", "final_epochs", -1, "final_epochs is a whole number of 1 or more; got -1"),
        ("birds-v20", "final_epochs", 2.5, "final_epochs is a whole number of 1 or more; got 2.5"),
        ("birds-v20", "seed", "abc", "seed is a whole number of 0 or more; got 'abc'"),
        ("birds-v20", "seed", None, "seed is a whole number of 0 or more; got None"),
        ("birds-v20", "seed", True, "seed is a whole number of 0 or more; got True"),
        ("birds-v20", "learning_rate", 0, "learning_rate is a number above 0; got 0.0"),
        ("birds-v20", "learning_rate", float("nan"), "learning_rate is a number above 0; got nan"),
        ("birds-v20", "dropout", 1.5, "dropout is a number from 0 to 1; got 1.5"),
        ("birds-v20", "n_species", 17, "n_species is a whole number from 2 to 16; got 17"),
        ("birds-v20", "n_folds", -1, "n_folds is a whole number of 0 or more; got -1"),
        ("birds-v20", "augmentation", "mixup=much", "mixup of an augmentation is a number; got 'much'"),
        ("birds-v20", "final_epoch", 3, "No notebook takes the parameters final_epoch. Did you mean final_epochs?"),
        ("tagging-ensemble", "networks", "wave mfc", "networks is of wave, mfcc, wave_dry, mfcc_dry; got 'wave mfc'"),
        ("tagging-ensemble", "n_folds", 1, "n_folds is a whole number of 2 or more; got 1"),
        ("music-8", "network", "11", "network is one of 1, 2, 3, 3r"),
    ],
)
def test_what_is_no_value_of_a_parameter_is_refused_before_anything_runs(experiment, name, value, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        make_plan(CATALOGUE[experiment], changes={name: value})


def test_values_get_the_types_that_notebooks_want():
    plan = make_plan(CATALOGUE["music-8"], changes=dict(network=8, learning_rate=1, precision="auto"))
    assert plan.parameters["network"] == "8" and plan.parameters["learning_rate"] == 1.0
    assert plan.name == make_plan(CATALOGUE["music-8"], changes=dict(learning_rate=1.0)).name
    assert make_plan(CATALOGUE["birds-v20"], changes=dict(n_folds=0)).parameters["n_folds"] == 0


def test_every_command_of_the_readme_is_understood_and_what_it_sets_is_a_parameter():
    text = (ROOT / "README.md").read_text(encoding="utf-8") + (ROOT / "avianspec/report/templates/about.md").read_text()
    from avianspec.report.command_line import parse_changes
    from avianspec.runs.catalogue import select

    lines = re.findall(r"^(?:.*\| `| *)avianspec ([^#`\n]+?)(?:  .*|`.*|\s*#.*)?$", text, re.M)
    words = [re.findall(r"'[^']*'|\S+", line) for line in lines]
    assert len(words) >= 20 and {w[0] for w in words} >= {"run", "report", "versions", "identify", "fetch", "check"}
    for one in words:
        if one == ["fetch"]:
            continue
        args = _parser().parse_args([w.strip("'") for w in one])
        for experiment in select(CATALOGUE, args.experiments) if "experiments" in args else []:
            make_plan(experiment, smoke=getattr(args, "smoke", False), changes=parse_changes(args.set))
