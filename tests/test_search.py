"""The search: seeded, resumed, within its budget, and blind to the test part."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from avianspec.files import read_json, read_text_table
from avianspec.learning.dataset import open_run

TINY = dict(network=("v20_mfcc",), n_frames=(96,), batch_size=(16, 32))


def tiny_search(run, n_trials, **more):
    from avianspec.studies.birds.search import SPACE, search

    return search(run, n_trials, 1, 2, space=SPACE | TINY, progress=False, **more)


@pytest.fixture(scope="module")
def searched(demo, tmp_path_factory):
    run = tmp_path_factory.mktemp("search") / "run"
    shutil.copytree(demo, run)
    return run, tiny_search(run, 3)


def test_the_search_never_sees_the_test_part(demo, searched, tmp_path):
    "Test recordings become noise under swapped labels, and not a digit changes."
    run = tmp_path / "run"
    shutil.copytree(demo, run)
    data = open_run(run)
    store, hidden = data.store, data.part("recordist", "test").recording_id
    shutil.copytree(store.folder, tmp_path / "features")
    (run / "features.json").write_text(
        json.dumps(read_json(run / "features.json") | {"folder": str(tmp_path / "features")})
    )
    features = tmp_path / "features" / store.data.name
    for name in ("spectrogram", "mfcc"):
        frames = np.load(features / f"{name}.npy")
        for row in store.index.loc[hidden].itertuples():
            frames[row.start : row.start + row.n_frames] = np.nan
        np.save(features / f"{name}.npy", frames)
    moments = np.load(features / "moments.npy")
    moments[store.index.index.get_indexer(hidden)] = np.nan
    np.save(features / "moments.npy", moments)
    names = read_text_table(run / "recordings.csv")
    mine = names.recording_id.isin(hidden)
    names.loc[mine, "label"] = names.loc[mine, "label"].to_numpy()[::-1]
    names.to_csv(run / "recordings.csv", index=False)
    assert np.isnan(open_run(run).store.spectrogram).any() and len(hidden) > 5
    tiny_search(run, 3)
    assert (run / "trials.csv").read_bytes() == (searched[0] / "trials.csv").read_bytes()


def test_a_stopped_search_goes_on_as_it_would_have(demo, searched, tmp_path, monkeypatch):
    from avianspec.studies.birds import search

    run, plain, calls = tmp_path / "run", search.try_setting, []
    shutil.copytree(demo, run)

    def stopped(*a, **k):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(*a, **k)

    monkeypatch.setattr(search, "try_setting", stopped)
    with pytest.raises(KeyboardInterrupt):
        tiny_search(run, 3)
    tiny_search(run, 3)
    assert len(calls) == 4 and (run / "trials.csv").read_bytes() == (searched[0] / "trials.csv").read_bytes()
    tiny_search(run, 3)  # the budget is spent
    assert len(calls) == 4
    assert (
        list(tiny_search(run, 4, seed=5).trial.sort_values()) == [1, 2, 3, 4] and len(calls) == 8
    )  # another seed is another search


def test_the_best_setting_is_the_one_with_the_lowest_loss_and_can_be_run(searched):
    from avianspec.report.command_line import parse_changes
    from avianspec.runs.catalogue import load_catalogue, make_plan

    run, trials = searched
    kept = pd.read_csv(run / "trials.csv")
    best, found = kept.loc[kept.val_loss.idxmin()], read_json(run / "search.json")
    assert (
        found["trial"] == best.trial
        and found["parameters"]["learning_rate"] == best.learning_rate == trials.learning_rate[0]
    )
    words = found["command"].split()
    assert words[:3] == ["avianspec", "run", "birds-v20"]
    plan = make_plan(load_catalogue()["birds-v20"], smoke=True, changes=parse_changes(words[4::2]))
    assert {k: plan.parameters[k] for k in found["parameters"]} == found["parameters"]


def test_a_trial_scores_what_cross_validation_says(searched):
    from avianspec.learning.settings import TrainingConfig, WindowConfig
    from avianspec.learning.training import cross_validate
    from avianspec.studies.birds.networks import bird_network
    from avianspec.studies.birds.search import try_setting

    run, trials = searched
    p, data = trials.iloc[0], open_run(run)
    cfg = TrainingConfig(p["network"], 1, int(p["batch_size"]), float(p["learning_rate"]), float(p["dropout"]))
    windows = WindowConfig(int(p["n_frames"]), p["combine"], p["short"], p["keep_frames"], int(p["keep_buffer"]))
    history, _ = cross_validate(bird_network, data, cfg, windows, n_folds=2, progress=False)
    assert p.val_loss == pytest.approx(history.groupby("stage").val_loss.min().mean())
    assert p.val_accuracy == pytest.approx(history.val_accuracy.mean())  # one epoch: each is the best
    assert try_setting(data, read_json(run / "search.json")["parameters"], 1, 2)["val_loss"] == pytest.approx(
        p.val_loss
    )


def test_a_setting_that_diverges_loses_and_does_not_stop_the_search(monkeypatch):
    from avianspec.studies.birds import search

    curves = pd.DataFrame(
        dict(
            stage=["fold0"] * 2 + ["fold1"] * 2, epoch=[0, 1] * 2, val_loss=[np.nan] * 2 + [1.0, 2.0], val_accuracy=0.1
        )
    )
    monkeypatch.setattr(search, "cross_validate", lambda *a, **k: (curves.copy(), None))
    setting = dict(
        network="v20",
        batch_size=8,
        learning_rate=1e-2,
        dropout=0.2,
        n_frames=128,
        combine="overwrite",
        short="pad",
        keep_frames="all",
        keep_buffer=0,
    )
    assert search.try_setting(None, setting)["val_loss"] == np.inf
