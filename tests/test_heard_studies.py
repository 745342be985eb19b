"""Listeners in the studies of music, speech and tagging: the same settings, the same items, several labels a clip."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import librosa
import numpy as np
import pandas as pd
import pytest

from avianspec.files import read_json
from avianspec.learning import listener_runs
from avianspec.learning.listener_runs import learn_items, listener_settings, predict_items
from avianspec.learning.listeners import ListenerConfig
from avianspec.learning.picture_batches import demo_images, open_images
from avianspec.learning.predictions import probabilities_of
from avianspec.learning.residual import ResidualConfig
from avianspec.learning.saved_model import load_saved_model
from avianspec.learning.settings import front_end
from avianspec.learning.tasks import Task
from avianspec.learning.unsupervised import DictionaryConfig
from avianspec.runs.catalogue import load_catalogue
from avianspec.scoring.comparison import compare
from avianspec.scoring.jobs import Job, carry_out
from avianspec.sound.whitening import FINE
from avianspec.studies.birds.contract import final_settings
from avianspec.studies.music import contract as music
from avianspec.studies.music.listeners import open_heard, prepare_heard, train_music_listener
from avianspec.studies.speech import contract as speech
from avianspec.studies.speech.listeners import hear_mixtures, run_speech_listener
from avianspec.studies.speech.recordings import DEMO, demo_speech, open_speech
from avianspec.studies.tagging import contract as tagging
from avianspec.studies.tagging.clips import TaggingConfig, open_clips, prepare_tagging
from avianspec.studies.tagging.listeners import listen_to_clips, run_listener
from avianspec.synthetic.soundbox import make_soundbox

CATALOGUE = load_catalogue()
DICTIONARY = DictionaryConfig(lengths=(8,), n_atoms=16, n_patches=800, n_dims=16, shifts=(0,), window_s=1.0)
TINY = ListenerConfig(DICTIONARY, None)
BOTH = ListenerConfig(DICTIONARY, ResidualConfig(window_s=1.0, filters=(4, 4, 4, 4), n_head=4, steps=3, batch_size=4))
QUICK = dict(n_atoms=16, n_patches=800, band_shifts="0", patch_frames="8", window_s=1.0, C=0.01)
SMALL = TaggingConfig(networks=("dictionary",), mfcc_sr=16000, n_mfcc=20, n_folds=2)


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    "Clips of the small band, their pictures and their spectrograms."
    run = tmp_path_factory.mktemp("heard") / "run"
    shutil.copytree(demo_images(), run, ignore=shutil.ignore_patterns("training"))
    prepare_heard(run, run / "stores", progress=False)
    return run


@pytest.fixture
def learnt(monkeypatch):
    "Items that listeners learn from, one table for each listener."
    seen = []

    def watched(data, items, *rest):
        seen.append(items)
        return learn_items(data, items, *rest)

    monkeypatch.setattr(listener_runs, "learn_items", watched)
    return seen


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    return make_soundbox(tmp_path_factory.mktemp("box") / "box", n_clips=36, progress=False)


@pytest.fixture(scope="module")
def clips(box, tmp_path_factory):
    "A small soundbox, prepared for a listener."
    run = tmp_path_factory.mktemp("clips") / "run"
    prepare_tagging(box, run, SMALL, run / "stores", progress=False)
    return run


@pytest.mark.parametrize("name", ["dictionary", "ours"])
def test_the_recipe_is_that_of_birds(name):
    birds = final_settings(CATALOGUE[f"birds-{name}"].parameters, 5)
    for settings in (
        music.music_settings(CATALOGUE[f"music-{name}"].parameters, 5),
        speech.decisive_settings(CATALOGUE[f"speech-{name}"].parameters, 5),
        speech.decisive_settings(CATALOGUE[f"speech-short-{name}"].parameters, 5),
        tagging.tagging_settings(CATALOGUE[f"tagging-{name}"].parameters, 5),
    ):
        assert settings["listener"] == birds["listener"] and settings["front_end"] == birds["front_end"]
    assert front_end(CATALOGUE[f"music-{name}"].parameters) == FINE


# ---- music -----------------------------------------------------------------------------------------------------------


def test_a_clip_is_heard_from_its_first_second_to_its_last_and_no_further(heard):
    data = open_heard(heard)
    clips = listener_runs._LogMels(data, data.items)
    for k in range(0, len(data.items), 7):
        row, whole = data.items.iloc[k], data.stores["spectrogram"][data.items.recording_id.iloc[k]]["spectrogram"]
        number = int(row.clip_id.rsplit(".", 1)[1])
        assert row.start_s == 3.0 * number
        np.testing.assert_array_equal(clips[k], whole[300 * number : 300 * (number + 1)])  # frames of 10 ms
    assert len(clips) == len(data.items) and {len(c) for c in clips} == {300}


def music_job(run, out, by="track", **parameters):
    out.mkdir(parents=True)
    return Job("music-x", QUICK | parameters, 0, by, "test", run, out, out)


@pytest.mark.parametrize("by", ["track", "clip"])
def test_a_listener_answers_for_the_clips_of_a_network(heard, tmp_path, by):
    quick = dict(network="1", epochs=1, batch_size=32, patience=0, learning_rate=1e-3, precision="float32")
    network, _ = music.train_music_job(music_job(heard, tmp_path / "network", by, **quick))
    said, facts = music.train_music_job(music_job(heard, tmp_path / "listener", by, network="dictionary"))
    about = ["split", "part", "recording_id", "clip_id", "label", "group"]
    pd.testing.assert_frame_equal(said[about], network[about])
    assert list(said) == list(network) and set(said.part) == {"validation", "test"}
    assert facts["n_parameters"] > 0 and set(facts["parts"]) == {"train", "validation", "test"}
    assert facts["parts"]["test"]["accuracy"] == pytest.approx(np.mean(said.predicted == said.label)[()], abs=0.5)


def test_both_are_dealt_alike(tmp_path):
    source, dealt = demo_images().parent / "band", []
    for network in ("1", "dictionary"):
        options = dict(network=network, test_folds=3)
        music.prepare_music(source, tmp_path / network, tmp_path / "stores", options, 4, progress=False)
        dealt.append((tmp_path / network / "split.csv").read_bytes())
    assert dealt[0] == dealt[1] and not (tmp_path / "1" / "features.json").exists()


def test_a_listener_learns_from_what_a_network_learns_from(heard, tmp_path, learnt):
    music.train_music_job(music_job(heard, tmp_path / "out", network="dictionary"))
    assert [list(items.clip_id) for items in learnt] == [list(open_images(heard).part("track", "train").clip_id)]


def test_a_run_of_music_keeps_the_listener_and_its_scores(heard, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(heard, run)
    metrics = train_music_listener(open_heard(run), TINY, ("track", "clip"), progress=False)
    said = pd.read_parquet(run / "predictions.parquet")
    test = said[(said.split == "track") & (said.part == "test")]
    assert metrics["splits"]["track"]["network"]["accuracy"] == pytest.approx((test.predicted == test.label).mean())
    saved = load_saved_model(run)
    assert (
        replace(saved.front_end, amin=FINE.amin) == FINE
        and saved.split == "track"
        and metrics["network"] == "dictionary"
    )
    again = predict_items(saved.model, open_heard(run), open_heard(run).part("track", "test"))
    np.testing.assert_allclose(probabilities_of(again), probabilities_of(test), rtol=1e-6)


# ---- speech ----------------------------------------------------------------------------------------------------------


def speech_job(out, **parameters):
    out.mkdir(parents=True)
    return Job("speech-x", QUICK | DEMO | parameters, 0, "speaker", "test", demo_speech(), out, out)


def test_a_mixture_is_heard_whole_and_in_the_bands_that_birds_have():
    data = open_speech(demo_speech())
    heard = hear_mixtures(data, progress=False)
    assert heard.store.config == FINE and heard.items.equals(data.items) and heard.splits.equals(data.splits)
    row = data.items.iloc[5]
    y, _ = librosa.load(row.path, sr=FINE.sr, res_type="soxr_hq")
    bands = dict(n_fft=FINE.n_fft, hop_length=FINE.hop_length, n_mels=FINE.n_mels, fmin=FINE.fmin, fmax=FINE.fmax)
    power = librosa.feature.melspectrogram(y=y, sr=FINE.sr, **bands)
    there = np.log(np.maximum(power.T, 1e-4))  # where there is a voice: resampling is approximate far below it
    np.testing.assert_allclose(np.maximum(heard.store[row.recording_id]["spectrogram"], np.log(1e-4)), there, atol=0.05)


def test_a_listener_answers_for_the_mixtures_of_a_network(tmp_path):
    quick = dict(epochs=1, batch_size=8, n_fft=512, hop_length=256, n_mels=24, fmin=50.0, fmax=4000.0)
    quick |= dict(piece_frames=32, piece_hop=16, filters=(4, 4, 4, 8))
    network, _ = speech.train_speech_job(speech_job(tmp_path / "network", network="mel_delta", **quick))
    said, facts = speech.train_speech_job(speech_job(tmp_path / "listener", network="dictionary"))
    about, data = ["split", "part", "recording_id", "label", "group"], open_speech(demo_speech())
    same = [rows.sort_values("recording_id").reset_index(drop=True) for rows in (network, said)]
    pd.testing.assert_frame_equal(same[1][about], same[0][about])
    assert list(said) == list(network) and "epochs" not in facts and facts["n_parameters"] > 0
    test = said[said.part == "test"]
    assert facts["parts"]["test"]["accuracy"] == np.mean(test.predicted == test.label)
    assert list(said.recording_id) == list(data.items.recording_id[data.splits.speaker != "train"])


def test_a_listener_of_speech_learns_from_the_training_speakers_alone(tmp_path, learnt):
    speech.train_speech_job(speech_job(tmp_path / "out", network="dictionary"))
    train = open_speech(demo_speech()).part("speaker", "train")
    assert [list(items.recording_id) for items in learnt] == [list(train.recording_id)]


@pytest.mark.parametrize("network", ["residual", "framewise"])
def test_a_listener_of_one_network_answers_too_and_without_a_part_to_validate_on(tmp_path, network):
    source, run = demo_speech().parent / "chatter", tmp_path / "run"
    speech.prepare_speech(source, run, demo_speech().parent / "stores", DEMO | dict(test_folds=2), progress=False)
    quick = dict(network=network, steps=2, batch_size=4, filters=(4, 4, 4, 4), n_head=4)
    job = replace(speech_job(tmp_path / "out", **quick), data=run, fold=open_speech(run).folds("speaker")[0])
    assert carry_out(speech.train_speech_job, job, {}) == ""
    said = pd.read_parquet(job.out / "answers.parquet")
    assert set(said.part) == {"test"} and np.isfinite(probabilities_of(said)).all()
    cells = [cell.strip() for cell in speech.speech_tables([job])["results"].splitlines()[2].split("|")[1:-1]]
    accuracy = read_json(job.out / "done.json")["parts"]["test"]["accuracy"]
    assert cells[:3] == ["**x**", "1", "–"] and cells[4] == "–" and cells[6] == f"{accuracy:.3f}"


def test_deals_of_speech_are_other_speakers_each_and_no_further_witnesses(tmp_path):
    trials, source = [CATALOGUE["speech-short-dictionary"]], demo_speech().parent / "chatter"
    quick = QUICK | DEMO | dict(n_mixtures=24, network="dictionary")
    options, found, said = dict(folds=2, changes=quick, out=tmp_path / "out", progress=False), {}, []
    for seeds in ((0, 1), (0,), (1,)):
        found[seeds] = compare(speech.STUDY, trials, source, tmp_path / "c", seeds, **options)[0]
        said.append("Mixtures are made anew for each" in (tmp_path / "out/_versions.md").read_text(encoding="utf-8"))
    assert said == [True, False, False]
    facts = next(iter(found[0, 1].facts.values()))
    assert (facts["n_parts"], facts["n_recordings"]) == (4, 24)  # two folds of each deal
    both, *each = (outcome.table.loc["speech-short-dictionary"] for outcome in found.values())
    for end in ("value", "low", "high"):
        assert both[end] == pytest.approx(np.mean([one[end] for one in each]), nan_ok=True)


def test_mixtures_are_made_to_spectrograms_once_for_all_jobs(tmp_path):
    data, store = open_speech(demo_speech()), hear_mixtures(open_speech(demo_speech()), progress=False).store
    written = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.npy")}
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: hear_mixtures(data, progress=False), range(2)))
    assert {heard.store.folder for heard in both} == {store.folder} and store.folder.parent == data.store.parent
    assert written and {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.npy")} == written


def test_a_listener_is_compared_with_the_best_network_and_has_no_curves(tmp_path):
    asked = [CATALOGUE[name] for name in ("speech-short", "speech-pcen", "speech-short-ours")]
    validated = {"speech-short": 0.8, "speech-pcen": 0.9, "speech-short-ours": 0.95, "pitch": 0.99}
    found = speech.speech_references(validated, asked)
    assert found == {"speech-short": "pitch", "speech-pcen": "speech-short", "speech-short-ours": "speech-pcen"}
    job = speech_job(tmp_path / "out", network="dictionary")
    assert carry_out(speech.train_speech_job, job, {}) == ""
    assert set(speech.draw_speech([job])) == {"confusion"}
    row = speech.speech_tables([job])["results"].splitlines()[2]
    assert row.startswith("| **x** | 1 | – | ") and row.count("|") == 8


def test_a_run_of_speech_keeps_the_listener_and_its_scores(tmp_path):
    data = replace(open_speech(demo_speech()), run=tmp_path / "run")
    metrics = run_speech_listener(data, BOTH, progress=False)
    said = pd.read_parquet(data.run / "predictions.parquet")
    assert set(said.part) == {"validation", "test"}
    test, scores = said[said.part == "test"], metrics["splits"]["speaker"]
    assert scores["network"]["accuracy"] == pytest.approx((test.predicted == test.label).mean())
    assert metrics["network"] == "ours" and {"pitch", "naive_bayes", "majority"} <= set(scores)
    counts = pd.read_csv(data.run / "confusion.csv", index_col="label")
    assert counts.to_numpy().sum() == len(test) and np.trace(counts) == (test.predicted == test.label).sum()
    again = predict_items(
        load_saved_model(data.run).model, hear_mixtures(data, progress=False), data.part("speaker", "test")
    )
    np.testing.assert_allclose(probabilities_of(again), probabilities_of(test), rtol=1e-5)


# ---- tagging ---------------------------------------------------------------------------------------------------------


def test_a_clip_of_two_labels_is_learnt_from_as_one_of_each(clips, monkeypatch):
    data, found = open_clips(clips), {}

    def watched(recordings, labels, makers, *rest):
        found.update(labels=labels, makers=makers, lengths=[len(x) for x in recordings])

    monkeypatch.setattr(listener_runs, "train_listener", watched)
    train = data.part("part", "train")
    learn_items(data, train, TINY, progress=False)
    named = [(group, one) for group, label in zip(train.group, train.label, strict=True) for one in label.split(",")]
    assert list(zip(found["makers"], found["labels"], strict=True)) == named and len(named) > len(train)
    frames = data.stores["spectrogram"].index.n_frames.loc[train.recording_id]
    assert found["lengths"] == list(np.repeat(frames, train.label.str.count(",") + 1))
    single = replace(data, task=Task(tuple(sorted(set(train.label)))))
    learn_items(single, train, TINY, progress=False)
    assert found["labels"] == list(train.label)  # a comma in the name of a class is a comma


def test_several_sounds_at_once_stand_above_those_that_are_not_there(clips, monkeypatch):
    data = open_clips(clips)
    train = data.part("part", "train")
    model = learn_items(data, train, replace(TINY, dictionary=replace(DICTIONARY, C=10.0)), progress=False)
    p, truth = probabilities_of(predict_items(model, data, train)), data.task.targets(train.label) > 0
    ranks = (-p).argsort(axis=1).argsort(axis=1)
    assert np.mean([r[t].max() < t.sum() for r, t in zip(ranks, truth, strict=True) if t.sum() > 1]) > 0.8
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


def test_taught_labels_are_learnt_and_true_ones_answered_for(clips, monkeypatch):
    data, taught = open_clips(clips), []
    wrong = data.items.assign(taught=data.items.label.iloc[::-1].to_numpy())

    def watched(data, items, *rest):
        taught.extend(items.label)
        return learn_items(data, items, *rest)

    monkeypatch.setattr("avianspec.studies.tagging.listeners.learn_items", watched)
    _, said = listen_to_clips(replace(data, items=wrong), TINY, progress=False)
    train, test = (data.on_side("part", side) for side in ("train", "test"))
    assert taught == list(wrong.taught[train]) and list(said.label) == list(data.items.label[test])


def tagging_job(run, out, **parameters):
    out.mkdir(parents=True)
    return Job("tagging-x", QUICK | parameters, 0, "source", "1", run, out, out / "shared")


def test_a_listener_answers_for_the_clips_that_a_network_of_its_fold_is_tested_on(tmp_path):
    full = make_soundbox(tmp_path / "full", n_clips=36, progress=False)
    table = pd.read_csv(full / "train_curated.csv")
    source = tmp_path / "source"
    source.mkdir()
    shutil.copytree(full / "train_curated", source / "train_curated")
    table.to_csv(source / "train_curated.csv", index=False)  # no test part: folds are dealt
    about, quick = [], dict(mfcc_sr=16000, n_mfcc=20, n_folds=2, test_folds=3, epochs=1, n_crops=1, duration_s=1.0)
    for networks in ("mfcc_dry", "dictionary"):
        one = tagging_job(tmp_path / networks / "data", tmp_path / networks / "out", networks=networks, **quick)
        one.data.mkdir()
        tagging.prepare_clips(source, one.data, tmp_path / "stores", one.parameters, 0, progress=False)
        said, facts = tagging.train_clips(one)
        said = said[said.part == "test"] if "part" in said else said
        about.append(said[["recording_id", "label", "group"]].reset_index(drop=True))
        assert ("n_parameters" in facts) == (networks == "dictionary")
    pd.testing.assert_frame_equal(*about)


def test_a_run_of_tagging_keeps_the_listener_its_scores_and_a_submission(clips, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(clips, run)
    metrics = run_listener(open_clips(run), replace(SMALL, networks=("ours",)), BOTH, progress=False)
    assert metrics["metric"] == "lwlrap" and metrics["network"] == "ours"
    assert read_json(run / "metrics.json")["splits"]["test"]["network"]["lwlrap"] > 0
    submission, data = pd.read_csv(run / "submission.csv"), open_clips(run)
    assert list(submission.columns[1:]) == read_json(run / "tagging.json")["order"]
    assert len(submission) == (data.splits.part == "test").sum()
    assert set(load_saved_model(run).classes) <= set(data.classes)


def test_listeners_and_networks_are_not_mixed_in_one_answer():
    with pytest.raises(ValueError, match="or one alone of dictionary, residual, ours, framewise; got wave ours"):
        TaggingConfig(networks=("wave", "ours"))
    assert TaggingConfig(networks=("ours",)).listens and not TaggingConfig(networks=("wave", "mfcc")).listens
    with pytest.raises(ValueError, match="network is one of dictionary, residual, ours, framewise; got 'wave'"):
        listener_settings(dict(network="wave"))
