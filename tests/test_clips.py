"""Clips of several labels: labels counted with and without company, odd files found and nothing else, the job."""

import json

import matplotlib
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from notebook_job import run_job

from avianspec.data.clips import (
    clip_facts,
    label_company,
    label_pairs,
    label_ridge,
    label_sets,
    label_table,
    odd_clips,
    plot_duration_violins,
    plot_label_company,
    plot_part_durations,
    too_long_s,
)
from avianspec.data.known_sets import label_matrix, load_freesound
from avianspec.data.layouts import fill_durations, load_parts
from avianspec.data.recordings import validate
from avianspec.files import read_text_table, write_table
from avianspec.synthetic.soundbox import make_soundbox

matplotlib.use("agg")


pytestmark = pytest.mark.usefixtures("close_figures")


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    return make_soundbox(tmp_path_factory.mktemp("box") / "soundbox", n_clips=48, seed=1, progress=False)


def write_clips(folder, sounds, sr=16000):
    "A Freesound set of given sounds: name to (samples, labels)."
    (folder / "train_curated").mkdir(parents=True)
    for name, (y, _) in sounds.items():
        sf.write(folder / "train_curated" / f"{name}.wav", y, sr)
    write_table(
        folder / "train_curated.csv",
        pd.DataFrame({"fname": [f"{n}.wav" for n in sounds], "labels": [labels for _, labels in sounds.values()]}),
    )
    return folder


def test_labels_are_counted_with_and_without_company():
    table = validate(
        pd.DataFrame(
            {
                "recording_id": list("abcde"),
                "label": ["Rain", "Rain, Bell", "Bell,Rain", "Bell,Rain,Owl", "Rain"],
                "group": ["s", "s", "t", "", "s"],
                "path": "x",
            }
        )
    )
    assert label_table(table).to_dict("index") == {
        "Bell": dict(clips=3, alone=0, sources=3),
        "Owl": dict(clips=1, alone=0, sources=1),
        "Rain": dict(clips=5, alone=2, sources=3),
    }
    assert label_sets(table).to_dict() == {"Rain": 2, "Bell, Rain": 2, "Bell, Owl, Rain": 1}


def test_labels_that_come_together_are_counted_and_drawn():
    table = pd.DataFrame({"label": ["Rain", "Rain, Bell", "Bell,Rain", "Bell,Rain,Owl", "Rain", "Cat"]})
    pairs = label_pairs(table)
    # three clips with a bell, all with rain; one of them with an owl, too; the cat is alone
    assert pairs.to_numpy().tolist() == [[3, 0, 1, 3], [0, 1, 0, 0], [1, 0, 1, 1], [3, 0, 1, 5]]
    assert list(pairs) == list(pairs.index) == ["Bell", "Cat", "Owl", "Rain"]
    company = label_company(pairs)
    assert list(company) == list(company.index) == ["Bell", "Owl", "Rain"]
    expected = np.array([[np.nan, 1 / 3, 1], [1, np.nan, 1], [3 / 5, 1 / 5, np.nan]])
    np.testing.assert_allclose(company, expected)
    ax = plot_label_company(pairs)
    drawn = np.ma.filled(ax.collections[0].get_array().reshape(3, 3), np.nan)
    np.testing.assert_allclose(drawn, expected)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Bell (3)", "Owl (1)", "Rain (5)"]
    assert [t.get_text() for t in ax.texts] == ["1", "3", "1", "1", "3", "1"]
    with pytest.raises(ValueError, match="None of the 2 labels"):
        plot_label_company(label_pairs(table.iloc[[0, 5]]))


def test_a_heat_map_of_eighty_labels_names_each_of_them():
    names = [f"Label_{k:02d}" for k in range(80)]
    table = pd.DataFrame({"label": [f"{a},{b}" for a, b in zip(names, names[1:] + names[:1], strict=True)]})
    ax = plot_label_company(label_pairs(table))
    ax.figure.canvas.draw()
    assert [t.get_text() for t in ax.get_xticklabels()] == names and not ax.texts
    boxes = [t.get_window_extent() for t in ax.get_yticklabels()]
    assert all(a.y0 >= b.y1 - 0.5 for a, b in zip(boxes, boxes[1:], strict=False))  # no name lies over the next one


def test_ridge_from_labels_to_labels_is_the_closed_form():
    table = pd.DataFrame({"label": ["Rain", "Rain,Owl", "Owl", "Bell,Owl", "Bell,Rain", "Bell"]})
    names, truth = label_matrix(table)
    weights = label_ridge(table, alpha=2.0)
    for k, name in enumerate(names):
        x = np.delete(truth, k, axis=1) - np.delete(truth, k, axis=1).mean(axis=0)
        w = np.linalg.solve(x.T @ x + 2 * np.eye(2), x.T @ (truth[:, k] - truth[:, k].mean()))
        np.testing.assert_allclose(weights.loc[name].dropna(), w)
        assert np.isnan(weights.loc[name, name])


def test_odd_files_are_found_and_nothing_else(tmp_path):
    rng, sr = np.random.default_rng(0), 16000
    sounds = {
        f"usual{k}": (0.1 * rng.standard_normal(int(sr * s)), "Rain")
        for k, s in enumerate([1, 1.2, 1.4, 1.6, 1.8, 2, 2.2, 2.4])
    }
    sounds |= {
        "long": (0.1 * rng.standard_normal(15 * sr), "Rain"),
        "silent": (np.zeros(sr), "Rain"),
        "faint": (0.001 * rng.standard_normal(sr), "Bell"),
        "one_click": (np.r_[0.5 * rng.standard_normal(sr // 8), np.zeros(sr)], "Bell"),
    }
    folder = write_clips(tmp_path, sounds)
    (folder / "train_curated" / "usual3.wav").write_text("no sound")
    facts = clip_facts(load_freesound(folder), progress=False)
    odd = odd_clips(facts).set_index("recording_id")
    assert odd.kind.to_dict() == {
        "usual3": "unusable",
        "silent": "silent",
        "faint": "near-empty",
        "long": "long",
    }  # worst first; a click and then nothing is a sound
    assert list(odd.kind) == ["unusable", "silent", "near-empty", "long"]
    assert (
        odd.duration_s["long"] == pytest.approx(15)
        and "times the median" in odd.note["long"]
        and "-6" in odd.note["faint"]
    )
    assert facts.set_index("recording_id").level_db["usual0"] == pytest.approx(-20, abs=1.5)  # rms 0.1


def test_the_fence_is_tukeys():
    assert too_long_s(pd.Series([1, 2, 3, 4, 5])) == pytest.approx(4 + 3 * 2)
    assert too_long_s(pd.Series([5.0, 5.0, 5.0, np.nan])) == 10


def test_odd_files_of_the_soundbox_and_of_damaged_ones(box, odd_files):
    odd = odd_clips(clip_facts(load_freesound(box), progress=False))
    assert odd.kind.tolist() == ["silent", "long"] and odd.duration_s.iloc[1] == pytest.approx(40)
    folder, expected = odd_files
    facts = clip_facts(
        pd.DataFrame({"recording_id": list(expected), "path": [str(folder / n) for n in expected]}), progress=False
    )
    assert dict(zip(facts.recording_id, facts.verdict, strict=True)) == {
        name: verdict for name, (verdict, _) in expected.items()
    }


def test_violins_show_the_commonest_labels_longest_first(box):
    table = fill_durations(load_freesound(box))
    names, truth = label_matrix(table)
    medians = pd.Series([table.duration_s[has].median() for has in truth.T], names)
    counts = pd.Series(truth.sum(axis=0), names)
    shown = [t.get_text() for t in plot_duration_violins(table, n=4).get_yticklabels()]
    assert len(shown) == 4 and counts[shown].min() >= counts.drop(shown).max()
    assert medians[shown].is_monotonic_decreasing
    every = [t.get_text() for t in plot_duration_violins(table).get_yticklabels()]
    assert sorted(every) == names and medians[every].is_monotonic_decreasing


def test_parts_that_are_there(box, tmp_path):
    parts = {name: fill_durations(part) for name, part in load_parts(box).items()}
    assert {k: len(t) for k, t in parts.items()} == {"train_curated": 48, "train_noisy": 24, "test": 24}
    ax = plot_part_durations(parts)
    assert len(ax.get_legend().get_texts()) == 3 and ax.get_xscale() == "log" and "(s)" in ax.get_xlabel()
    only = write_clips(tmp_path / "one", {"a": (np.ones(8000) * 0.1, "Rain"), "b": (np.ones(16000) * 0.1, "Bell")})
    assert list(load_parts(only)) == ["train_curated"]
    with pytest.raises(ValueError, match="not known"):
        plot_part_durations({"x": load_freesound(only)})


def test_job_on_a_run_folder_and_on_a_set_without_test_part(box, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    table = load_freesound(box)
    write_table(run / "recordings.csv", table)
    run_job("data/clips", run_dir=str(run), source=str(box))
    facts = json.loads((run / "clips.json").read_text())
    assert (
        facts["n_clips"] == 48
        and facts["n_labels"] == 10
        and facts["odd"] == {"silent": 1, "long": 1}
        and set(facts["median_s"]) == {"train_curated", "train_noisy", "test"}
    )
    assert facts["single_label_clips"] == (~table.label.str.contains(",")).sum() and facts["n_label_sets"] == len(
        label_sets(table)
    )
    assert read_text_table(run / "odd_clips.csv").kind.tolist() == ["silent", "long"]
    rng = np.random.default_rng(0)
    plain = write_clips(
        tmp_path / "plain",
        {f"c{k}": (0.1 * rng.standard_normal(16000), "Rain" if k % 2 else "Bell,Rain") for k in range(6)},
    )
    space = run_job("data/clips", source=str(plain))
    assert list(space["parts"]) == ["train_curated"] and list(space["lost"]) == ["Bell"] and not len(space["odd"])


def test_real_clips(shared_data):
    table = fill_durations(load_freesound(shared_data / "environment"))
    assert label_table(table).clips.to_dict() == dict.fromkeys(label_matrix(table)[0], 24)
    assert len(plot_duration_violins(table).get_yticklabels()) == 10
    assert odd_clips(clip_facts(table, progress=False)).empty
