"""Families of experiments: one change each, held against their base; and fewer recordings to learn from."""

import shutil
from dataclasses import replace

import librosa
import numpy as np
import pandas as pd
import pytest
from test_contract import fish, sounds  # noqa: F401  a fixture
from test_dictionaries import SMALL, whistle
from test_listeners import UNCHANGED

from avianspec.cli import main
from avianspec.data.splits import fewer_to_learn
from avianspec.files import read_json
from avianspec.learning.dataset import open_run
from avianspec.learning.residual import MixedBatches, ResidualConfig
from avianspec.learning.unsupervised import seen
from avianspec.runs.catalogue import load_catalogue
from avianspec.scoring.ablation import changed_scores, curves_markdown, learning_curves, power_law
from avianspec.sound.features import log_mel
from avianspec.sound.whitening import FINE, coarser
from avianspec.studies.birds.contract import STUDY, different_networks, final_settings

TREE = """
experiments:
  tree: {purpose: a tree, notebooks: [a], parameters: {leaves: 9, roots: 3}, smoke: {leaves: 2, roots: 1}}
variants:
  small:
    of: tree
    parameters: {leaves: 5}
    changes: {bare: {leaves: 0}, loose: {roots: null}, tall: {height: 7, leaves: 8}}
"""


def test_a_family_is_a_base_and_one_change_each(tmp_path):
    (tmp_path / "trees.yml").write_text(TREE)
    found = load_catalogue(tmp_path)
    assert list(found) == ["tree", "small", "small-bare", "small-loose", "small-tall"]
    assert [e.family for e in found.values()] == ["", *["small"] * 4]
    assert found["small"].parameters == dict(leaves=5, roots=3) and found["small"].notebooks == ("a",)
    assert found["small-bare"].parameters == dict(leaves=0, roots=3) and found["small-loose"].parameters == dict(
        leaves=5
    )
    assert found["small-loose"].smoke == dict(leaves=2) and found["small-tall"].smoke == dict(leaves=2, roots=1)
    assert found["small"].purpose == "tree with leaves 5 instead of 9"
    assert found["small-tall"].purpose == "small with height 7, leaves 8 instead of 5"


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("of: tree", "of: bush", "Variants small are of an experiment of the catalogue; got 'bush'"),
        ("changes:", "change:", "Variants small: unknown fields change; there are changes, of, parameters, smoke"),
    ],
)
def test_a_family_of_nothing_is_refused(tmp_path, old, new, says):
    (tmp_path / "trees.yml").write_text(TREE.replace(old, new))
    with pytest.raises(ValueError, match=says):
        load_catalogue(tmp_path)


def test_every_variant_of_the_ablation_changes_what_is_trained_and_is_held_against_its_base():
    families = [e for e in load_catalogue().values() if e.family]
    assert different_networks(families) == families  # no two of a family are trained alike
    settings = {e.name: final_settings(e.parameters) for e in families}
    assert all(settings[e.name] != settings[e.family] for e in families if e.name != e.family)
    references = STUDY.references(dict.fromkeys(settings, 0.5) | dict(majority=0.1), families)
    assert references == {e.name: e.family for e in families if e.name != e.family}


def test_a_comparison_of_a_family_tells_what_each_change_did(fish, tmp_path):  # noqa: F811
    (fish / "experiments" / "more.yml").write_text(
        "variants: {shoal: {of: fish-1, changes: {far: {neighbours: 9}, near: {neighbours: 2}}}}"
    )
    data, out = sounds(tmp_path / "sounds"), tmp_path / "out"
    words = ["versions", "shoal*", "--data", str(data), "--seeds", "3", "--folds", "2", "--output", str(out), "--quiet"]
    assert main(words) == 0
    found = read_json(out / "versions.json")
    assert found["families"] == {"shoal": "shoal", "shoal-far": "shoal", "shoal-near": "shoal"}
    table = changed_scores(found).set_index("version")
    assert set(table.index) == set(found["families"]) and table.index[0] == "shoal"
    for name in ("shoal-far", "shoal-near"):
        assert table.difference[name] == pytest.approx(table.value[name] - table.value["shoal"], abs=1e-6)
    page = (out / "_changes.md").read_text(encoding="utf-8")
    assert "| far: neighbours 9 instead of 1 | 3 |" in page and (out / "changes.png").exists()
    assert not (out / "_curves.md").exists()  # all learned from the same


def test_families_are_corrected_each_by_itself_unless_all_are_held_against_one(fish, tmp_path):  # noqa: F811
    (fish / "experiments" / "more.yml").write_text(
        "variants: {shoal: {of: fish-1, changes: {far: {neighbours: 9}, near: {neighbours: 2}}}, "
        "bank: {of: fish-1, parameters: {neighbours: 3}, changes: {wide: {neighbours: 8}}}}"
    )
    data, p, pages = sounds(tmp_path / "sounds"), {}, {}
    for name, words in dict(
        both=["shoal*", "bank*"], shoal=["shoal*"], against=["shoal*", "bank*", "--against", "bank"]
    ).items():
        words += ["--data", str(data), "--seeds", "3", "--folds", "2", "--output", str(tmp_path / name), "--quiet"]
        assert main(["versions", *words]) == 0
        rows = read_json(tmp_path / name / "versions.json")["result"]
        p[name] = {r["version"]: (r["reference"], r["p_holm"]) for r in rows if r.get("reference")}
        pages[name] = (tmp_path / name / "_versions.md").read_text(encoding="utf-8")
    assert {v: p["both"][v] for v in p["shoal"]} == p["shoal"] and p["both"]["bank-wide"][0] == "bank"
    assert all("(Holm, within each family)" in pages[name] for name in ("both", "shoal"))
    assert {r for r, _ in p["against"].values()} == {"bank"} and "corrected (Holm)." in pages["against"]


def counted(version, value, n_learned, family):
    ends = dict(low=value - 0.1, high=value + 0.1, difference=np.nan, difference_low=np.nan, difference_high=np.nan)
    return dict(version=version, data="", value=value, n_learned=n_learned, n_seeds=1, verdict=None, **ends), (
        version,
        family,
    )


def test_a_curve_is_a_family_that_learned_from_fewer_and_follows_a_power_law():
    rows = [counted(f"half-{n}" if n < 64 else "half", 1 - 0.8 / n**0.5, 3 * n, "half") for n in (4, 16, 64)]
    rows += [counted("other", 0.5, 192, "other"), counted("other-loud", 0.6, 192, "other")]
    found = dict(result=[r for r, _ in rows], families=dict(f for _, f in rows), purposes={}, curves=["half"])
    found["data"] = {"": dict(n_labels=3)}
    curve = learning_curves(found)
    assert curve.per_label.tolist() == [4, 16, 64] and set(curve.base) == {"half"}
    assert power_law(curve.per_label, curve.value) == pytest.approx((0.8, 0.5))
    assert list(changed_scores(found).version) == ["other", "other-loud"]


def test_what_half_the_error_takes_is_said_as_far_as_it_is_known():
    wrong = dict(steep=(0.8, 0.4, 0.2), flat=(0.84, 0.76, 0.73), rising=(0.5, 0.6, 0.7))
    rows = [
        dict(base=base, per_label=n, value=1 - error, low=0.0, high=1.0, n_seeds=3)
        for base, errors in wrong.items()
        for n, error in zip((2, 4, 8), errors, strict=True)
    ]
    told = dict(line.split(" | ")[::4] for line in curves_markdown(pd.DataFrame(rows)).splitlines()[2:])
    assert told == {"| steep": "2.0 × as many |", "| flat": "more than 100 × as many |", "| rising": "– |"}


def test_fewer_recordings_to_learn_from_counted_by_hand():
    sides = np.array(["train"] * 12 + ["test"] * 3 + ["", "validation"], dtype=object)
    labels = ["wren"] * 8 + ["owl"] * 4 + ["wren", "owl", "owl", "wren", "owl"]
    left = {n: fewer_to_learn(sides, labels, n, seed=3) for n in (2, 5)}
    for n, n_owls in ((2, 2), (5, 4)):
        learned = [label for side, label in zip(left[n], labels, strict=True) if side == "train"]
        assert learned.count("wren") == n and learned.count("owl") == n_owls  # of four owls, five are four
        assert left[n][12:].tolist() == sides[12:].tolist()
    for seed in range(9):
        two, five = (set(np.flatnonzero(fewer_to_learn(sides, labels, n, seed) == "train")) for n in (2, 5))
        assert two < five
    draws = {tuple(np.flatnonzero(fewer_to_learn(sides, labels, 2, seed) == "train")) for seed in range(9)}
    assert len(draws) > 5 and fewer_to_learn(sides, labels, 0).tolist() == sides.tolist()


def test_a_training_is_left_with_fewer_recordings_and_all_are_tested(demo, tmp_path):
    from avianspec.learning.settings import TrainingConfig
    from avianspec.learning.training import example_network, train_final

    shutil.copytree(demo, tmp_path / "run")
    data = open_run(tmp_path / "run", per_label=2, seed=1)
    few, whole = data.fold("recordist", "test"), open_run(demo)
    assert few.part("recordist", "train").label.value_counts().tolist() == [2] * len(data.classes)
    train_ids = set(whole.part("recordist", "train").recording_id)
    assert set(few.part("recordist", "train").recording_id) < train_ids
    cfg = TrainingConfig(epochs=1, batch_size=4)
    _, said = train_final(example_network, data, cfg, crop_seeds=1, progress=False)
    assert set(said.recording_id) == set(whole.part("recordist", "test").recording_id)


def test_two_other_ways_to_whiten():
    x = coarser(log_mel(whistle(3000, 0), FINE))
    cfg = replace(SMALL, whitening="none")
    np.testing.assert_allclose(seen(log_mel(whistle(3000, 0), FINE), cfg), x - np.log(1e-10), rtol=1e-5)
    steady = np.concatenate([np.tile(x[:1], (400, 1)), x])  # librosa's background has come to rest
    wanted = librosa.pcen(np.exp(steady) * 2.0**31, sr=50, hop_length=1, axis=0)[400:]
    np.testing.assert_allclose(
        seen(log_mel(whistle(3000, 0), FINE), replace(SMALL, whitening="pcen")), wanted, rtol=1e-2
    )
    with pytest.raises(ValueError, match="whitening is one of quantile, pcen, none; got 'snow'"):
        replace(SMALL, whitening="snow")


def test_windows_from_anywhere():
    x = np.zeros((400, 96), np.float32)
    x[200:205] = 3
    cfg = replace(UNCHANGED, batch_size=400, mixup=0, smoothing=0, by_activity=False)
    windows, _ = MixedBatches([x], np.array([0]), np.array([1.0]), cfg).next()
    assert 0.1 < (windows.max(axis=(1, 2, 3)) == 3).mean() < 0.2  # 54 of 351 places, the ends a little more


def test_the_quietest_stretch_of_another_recording_is_added_in_power():
    loud, other = np.full((400, 96), 2.0, np.float32), np.full((400, 96), 5.0, np.float32)
    other[100:150] = 1.0  # its quietest second
    cfg = replace(UNCHANGED, batch_size=400, mixup=0, smoothing=0, background=0.5)
    x, y = MixedBatches([loud, other], np.array([0, 1]), np.array([1.0, 0.0]), cfg).next()
    level = np.exp(x[:, 0, 0, 0])
    each = np.exp(2.0) + np.array([0, np.exp(1.0) - 1, np.exp(2.0) - 1])  # none, the other's, its own
    shares = [np.isclose(level, one, rtol=1e-4).mean() for one in each]
    assert sum(shares) == 1 and shares[0] == pytest.approx(0.5, abs=0.08) and min(shares) > 0.15
    assert (y[:, 0] == 1).all()  # of the same bird


def test_a_label_for_itself_learns_from_shares_of_its_own():
    from avianspec.learning.models import residual_net

    each = residual_net((50, 96, 1), 3, (4, 4, 4, 4), 4, loss="binary")
    p = each.predict_on_batch(np.random.default_rng(0).random((6, 50, 96, 1)).astype(np.float32))
    assert p.min() > 0 and np.ptp(p.sum(axis=1)) > 0 and np.abs(p.sum(axis=1) - 1).min() > 0.01
    with pytest.raises(ValueError, match="loss is softmax or binary; got 'hinge'"):
        ResidualConfig(loss="hinge")


def test_a_study_without_families_has_no_such_tables(fish, tmp_path):  # noqa: F811
    data, out = sounds(tmp_path / "sounds", n=4), tmp_path / "out"
    words = ["versions", "fish-1", "--data", str(data), "--seeds", "1", "--folds", "1", "--output", str(out), "--quiet"]
    assert main(words) == 0 and not (out / "_changes.md").exists()
    assert changed_scores(read_json(out / "versions.json")).empty
    assert learning_curves(read_json(out / "versions.json")).empty
