"""The whole way on a tiny aviary: killed, resumed, passed over, repeated, compared."""

import re
import subprocess
from dataclasses import replace

import pandas as pd
import pytest
from conftest import ROOT, at_work, wait_until

from avianspec.files import read_json, read_text_table, write_json
from avianspec.runs.catalogue import Plan, load_catalogue, make_plan, places
from avianspec.runs.leaderboard import find_runs, leaderboard
from avianspec.runs.runner import rerun, run_plan, step_digest

SMALL = dict(n_species=3, n_recordings=27, n_folds=2, cv_epochs=2, final_epochs=2, crop_seeds=2, checkpoint_every=1)
STEPS = (
    "synthetic/aviary",
    "data/recordings",
    "stores/preprocessing",
    "scoring/benchmark",
    "studies/birds/study",
    "studies/birds/beside",
    "scoring/evaluation",
    "field/inference",
)


def small_plan(**changes):
    "The report's experiment, small, with the notebooks that compute something."
    return make_plan(replace(load_catalogue()["birds-report"], notebooks=STEPS), smoke=True, changes=SMALL | changes)


RUN = """
import sys
sys.path.insert(0, "tests")
from test_pipeline import run_plan, small_plan
run_plan(small_plan(), sys.argv[1], progress=False)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    "A run that was killed during training and taken up again."
    runs = tmp_path_factory.mktemp("runs with a space")
    plan = small_plan()
    with at_work(RUN, runs, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: list((runs / plan.name / "training").glob("final-session*")), process)
        process.kill()
    before = read_json(runs / plan.name / "manifest.json")
    run, ran = run_plan(plan, runs, progress=False)
    assert ran
    return run, plan, before


def test_a_killed_run_goes_on_without_repeating_what_was_done(finished):
    run, plan, before = finished
    after = read_json(run / "manifest.json")
    assert before["status"] == "running" and after["status"] == "done"
    done = [s for s in before["steps"] if s["status"] == "done"]
    assert [s["notebook"] for s in done] == list(STEPS[:4])
    assert after["steps"][:4] == done and [s["notebook"] for s in after["steps"]] == list(STEPS)


def test_the_run_folder_holds_what_is_promised(finished):
    run, plan, _ = finished
    for name in (
        "manifest.json",
        "recordings.csv",
        "quarantine.csv",
        "split.csv",
        "statistics.json",
        "baselines.csv",
        "history.csv",
        "model.keras",
        "model.json",
        "predictions.parquet",
        "metrics.json",
        "per_species.csv",
        "confusion.csv",
        "identified.csv",
        "listener/model.npz",
        "listener/predictions.parquet",
    ):
        assert (run / name).exists(), name
    held, split = pd.read_parquet(run / "validation.parquet"), read_text_table(run / "split.csv")
    assert set(held.fold) == {0, 1} and set(held.recording_id) <= set(split.recording_id[split.recordist != "1"])
    assert {
        p.relative_to(run / "notebooks").with_suffix("").as_posix() for p in (run / "notebooks").rglob("*.ipynb")
    } == set(STEPS)
    manifest, metrics = read_json(run / "manifest.json"), read_json(run / "metrics.json")
    assert (
        manifest["data"]["synthetic"]
        and len(manifest["data"]["sha256"]) == 64
        and manifest["versions"]["tensorflow"]
        and manifest["seed"] == 0
    )
    assert {by for by, scores in metrics["splits"].items() if "listener" in scores} == {"recordist"}
    assert metrics["listener"]["network"] == "ours"  # which stands beside the network on every recording
    for by, scores in metrics["splits"].items():
        split = read_text_table(run / "split.csv")
        assert scores["n_test"] == len(split) and scores["folds"] == 2  # every recording is tested once
        tested = pd.read_parquet(run / "predictions.parquet").query("split == @by")
        for _, crop in tested.groupby("crop_seed"):
            assert sorted(crop.recording_id) == sorted(split.recording_id)
        for who in ("majority", "no_audio", "naive_bayes", "network"):
            low, high = scores[who]["interval"]
            if scores["n_groups"] < 6:
                assert low is high is None and scores[who]["remark"].startswith("too few groups"), (by, who)
            else:
                assert 0 <= low <= scores[who]["accuracy"] <= high <= 1, (by, who)
    confusion = pd.read_csv(run / "confusion.csv", index_col=0)
    assert confusion.to_numpy().sum() == metrics["splits"]["recordist"]["n_test"] * SMALL["crop_seeds"]


def test_asked_again_nothing_is_done(finished):
    run, plan, _ = finished
    before = (run / "metrics.json").stat().st_mtime_ns
    assert run_plan(plan, run.parent, progress=False) == (run, False)
    assert (run / "metrics.json").stat().st_mtime_ns == before


def test_an_undisturbed_repetition_gives_the_same_numbers(finished):
    run, _, _ = finished
    again, different = rerun(run, progress=False)
    assert different == [] and (again / "metrics.json").read_bytes() == (run / "metrics.json").read_bytes()
    pd.testing.assert_frame_equal(
        pd.read_parquet(run / "predictions.parquet"), pd.read_parquet(again / "predictions.parquet")
    )
    board = leaderboard(run.parent)
    assert len(board) == 2 and board.score.nunique() == 1 and set(find_runs(run.parent)) == {run, again}


def test_a_changed_parameter_is_another_run(finished):
    _, plan, _ = finished
    other = small_plan(seed=1)
    assert (
        other.name != plan.name and places(other, ROOT, ROOT)["source"] == places(plan, ROOT, ROOT)["source"]
    )  # same birds, other split


def test_a_run_is_named_by_experiment_parameters_and_data():
    plan = Plan("birds-v20", "birds", "", ("data/recordings",), dict(seed=0, rate=0.1), "", {}, False)
    others = [dict(parameters=dict(seed=1, rate=0.1)), dict(parameters=dict(seed=0)), dict(data="/birds")]
    others += [dict(experiment="birds-v18"), dict(notebooks=("data/recordings", "scoring/benchmark"))]
    assert len({plan.name, *(replace(plan, **change).name for change in others)}) == 1 + len(others)
    assert replace(plan, purpose="other", parameters=dict(rate=0.1, seed=0)).name == plan.name  # in whatever order
    assert re.fullmatch(r"birds-v20-[0-9a-f]{8}", plan.name)


def test_what_is_said_on_the_command_line_wins():
    one = load_catalogue()["birds-v20"]
    one = replace(one, parameters=one.parameters | dict(final_epochs=9, crop_seeds=5), smoke=dict(final_epochs=2))
    epochs = [make_plan(one, smoke=smoke).parameters["final_epochs"] for smoke in (False, True)]
    said = make_plan(one, smoke=True, changes=dict(final_epochs=3)).parameters
    assert epochs == [9, 2] and said["final_epochs"] == 3 and said["crop_seeds"] == 5


def test_a_step_is_another_one_when_cells_parameters_or_data_change(tmp_path):
    def digest(source="x = 1", parameters=None, data="d", outputs=()):
        cell = dict(cell_type="code", source=[source], outputs=list(outputs))
        write_json(tmp_path / "a.ipynb", dict(cells=[cell]))
        return step_digest(tmp_path / "a.ipynb", parameters or dict(seed=0), data)

    changed = [dict(source="x = 2"), dict(parameters=dict(seed=1)), dict(data="e")]
    assert len({digest(), *(digest(**change) for change in changed)}) == 4
    assert digest() == digest(outputs=["shown"])


def finished_run(folder, score, finished, status="done", study="birds", metric="accuracy"):
    "A run folder with the two files that the leaderboard reads."
    scored = {metric: score, "interval": [score - 0.1, score + 0.1]}
    split = dict(network=scored, majority={metric: 0.1, "interval": [0, 0.2]}, n_test=20)
    facts = dict(network="v20", metric=metric, main_split="recordist", classes=["a", "b"], splits=dict(recordist=split))
    about = dict(study=study, status=status, finished=finished, data=dict(source="/some/birds"))
    write_json(folder / "metrics.json", facts)
    write_json(folder / "manifest.json", about)


def test_the_leaderboard_has_the_best_finished_run_first(tmp_path):
    finished_run(tmp_path / "low", 0.2, "2026-01-02")
    finished_run(tmp_path / "high", 0.7, "2026-01-01")
    finished_run(tmp_path / "middle", 0.5, "2026-01-03")
    finished_run(tmp_path / "killed", 0.9, None, status="running")
    finished_run(tmp_path / "tags", 0.8, "2026-01-04", study="tagging", metric="lwlrap")
    board = leaderboard(tmp_path)
    assert board.run.tolist() == ["high", "middle", "low", "tags"] and board.score.tolist() == [0.7, 0.5, 0.2, 0.8]
    assert board["95 % from"].tolist() == pytest.approx([0.6, 0.4, 0.1, 0.7]) and set(board.majority) == {0.1}
    assert leaderboard(tmp_path, "session").empty
    assert [r.name for r in find_runs(tmp_path)] == ["tags", "middle", "low", "high"]  # the newest first


@pytest.mark.parametrize(
    "name, value",
    [
        ("combine", "sum"),
        ("short", "stretch"),
        ("network", "v19"),
        ("keep_frames", "quiet"),
        ("splits", "both"),
        ("main_split", "month"),
    ],
)
def test_a_value_that_is_no_choice_is_refused_before_anything_runs(name, value):
    with pytest.raises(ValueError, match=f"{name} is one of .*; got '{value}'"):
        make_plan(load_catalogue()["birds-v20"], changes={name: value})


def test_choices_in_comments_are_those_of_the_code():
    from avianspec.data import splits
    from avianspec.learning.heads import OUTSIDE
    from avianspec.learning.listeners import LISTENERS
    from avianspec.learning.settings import COMBINE, FRAMES, SHORT
    from avianspec.learning.training import SPLITS
    from avianspec.runs.catalogue import notebook_parameters
    from avianspec.sound.pictures import RESIZES
    from avianspec.stores.shards import CODINGS
    from avianspec.studies.birds.networks import NETWORKS
    from avianspec.studies.music import networks as music_networks
    from avianspec.studies.speech.networks import SPEECH_NETWORKS
    from avianspec.studies.tagging import clips as tagging
    from avianspec.studies.transfer.recordings import BASES

    music, sounds = (
        tuple(music_networks.MUSIC_NETWORKS),
        dict(task=tagging.TASKS, labels=tagging.LABELS, noisy=tagging.NOISY, folds=tagging.FOLDS),
    )
    birds = dict(
        network=tuple(NETWORKS), combine=COMBINE, short=SHORT, keep_frames=FRAMES, folds=splits.FOLDS, splits=SPLITS
    )
    precisions, speech = ("float32", "mixed_bfloat16", "auto"), tuple(SPEECH_NETWORKS)
    others = {
        "learning/listener_runs": dict(network=LISTENERS),
        "studies/birds/listeners": dict(network=LISTENERS, folds=splits.FOLDS, precision=precisions),
        "studies/music/listeners": dict(
            network=LISTENERS, precision=precisions, splits=("both", *splits.SPLITS), resize=RESIZES
        ),
        "studies/speech/listeners": dict(network=LISTENERS, precision=precisions),
        "studies/tagging/listeners": dict(networks=LISTENERS, task=tagging.TASKS, precision=precisions),
        "studies/birds/outside": dict(network=OUTSIDE, folds=splits.FOLDS),
        "studies/music/networks": dict(network=music),
        "studies/music/study": dict(network=music, splits=("both", *splits.SPLITS)),
        "studies/speech/networks": dict(network=speech),
        "studies/speech/study": dict(network=speech, precision=precisions, coding=tuple(CODINGS)),
        "studies/transfer/networks": dict(base=tuple(BASES)),
        "studies/transfer/study": dict(base=tuple(BASES), main_split=(*splits.GROUPS, "published")),
        "studies/tagging/networks": dict(network=tagging.NETWORKS),
        "studies/tagging/folds": dict(network=tagging.NETWORKS),
        "studies/tagging/study": sounds,
    }
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        found, where = notebook_parameters(path), path.relative_to(ROOT / "nbs").with_suffix("").as_posix()
        for name in set(found) & set(expected := others.get(where, birds)):
            if (
                found[name].choices or where in others or where.startswith("studies/birds/")
            ):  # others may name any network
                assert sorted(found[name].choices) == sorted(expected[name]), (where, name)
    choices = notebook_parameters(ROOT / "nbs" / "studies/birds/study.ipynb")["main_split"].choices
    assert set(choices) == {*splits.GROUPS, "published"}


def test_the_small_form_may_run_fewer_notebooks_and_null_takes_a_parameter_away(tmp_path):
    (tmp_path / "s.yml").write_text("""
defaults:
  notebooks: [stores/preprocessing, learning/generator, studies/birds/study]
  smoke_notebooks: [stores/preprocessing, studies/birds/study]
  parameters: {seed: 1, n_frames: 64}
  smoke: {n_frames: 32}
experiments:
  a: {purpose: all}
  b: {purpose: without, parameters: {n_frames: null}}
  c: {purpose: own, notebooks: [learning/generator]}
""")
    found = load_catalogue(tmp_path)
    assert make_plan(found["a"]).notebooks == (
        "stores/preprocessing",
        "learning/generator",
        "studies/birds/study",
    ) and make_plan(found["a"], smoke=True).notebooks == ("stores/preprocessing", "studies/birds/study")
    assert make_plan(found["a"], smoke=True).parameters == {"seed": 1, "n_frames": 32} and make_plan(
        found["b"], smoke=True
    ).parameters == {"seed": 1}
    assert make_plan(found["c"], smoke=True).notebooks == ("learning/generator",)


def test_steps_that_another_run_has_done_the_same_are_taken_over(tmp_path):
    from avianspec.learning.dataset import open_run
    from avianspec.runs.catalogue import Experiment

    small = dict(n_species=3, n_recordings=27, aviary_seed=0, seed=0)
    steps, contract = (
        ("synthetic/aviary", "data/recordings", "stores/preprocessing"),
        "avianspec.studies.birds.contract:STUDY",
    )

    def plan(name, **changes):
        return make_plan(Experiment(name, "test", "shares its beginning", steps, small | changes, contract=contract))

    def taken(run):
        return [s.get("from", "") for s in read_json(run / "manifest.json")["steps"]]

    first, _ = run_plan(plan("first"), tmp_path, progress=False)
    second, ran = run_plan(plan("second"), tmp_path, progress=False)
    assert ran and taken(first) == ["", "", ""] and taken(second) == [first.name] * 3
    for name in (
        "recordings.csv",
        "split.csv",
        "features.json",
        "statistics.json",
        "notebooks/stores/preprocessing.ipynb",
    ):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert len(open_run(second).items) == len(open_run(first).items) and run_plan(
        plan("second"), tmp_path, progress=False
    ) == (second, False)
    again, different = rerun(second, progress=False)
    assert different == [] and taken(again) == ["", "", ""]  # a repetition takes nothing over
    for run in (second, again):
        (run / "split.csv").write_text((run / "split.csv").read_text() + " ")
    (first / "split.csv").write_text((first / "split.csv").read_text() + " ")
    other, _ = run_plan(plan("other", seed=1), tmp_path, progress=False)
    assert taken(other)[1:] == ["", ""]  # another seed is another split


def test_a_notebook_that_fails_is_named_and_kept(tmp_path):
    from avianspec.runs.catalogue import Plan
    from avianspec.runs.runner import RunFailed

    plan = Plan("broken", "test", "fails", ("learning/generator",), {}, "", {}, True)
    with pytest.raises(RunFailed, match=r"learning/generator: .*see the executed notebook"):
        run_plan(plan, tmp_path, progress=False)
    manifest = read_json(tmp_path / plan.name / "manifest.json")
    assert (
        manifest["status"] == "failed"
        and manifest["steps"][0]["status"] == "failed"
        and "learning/generator" in manifest["error"]
    )
