"""Music: networks to the last parameter, a run that resumes, both splits, scores that agree with a count by hand."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from avianspec.learning.picture_batches import demo_images, open_images

QUICK = dict(network="1", epochs=2, batch_size=32, patience=0, precision="float32")


def folder_with_pictures(place):
    shutil.copytree(demo_images(), place, ignore=shutil.ignore_patterns("training"))
    return place


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A trained run on the synthetic band, both splits."
    from avianspec.studies.music.study import music_training, train_music

    run = folder_with_pictures(tmp_path_factory.mktemp("music") / "run")
    train_music(open_images(run), music_training(QUICK), progress=False)
    return run


@pytest.mark.parametrize(
    "name, n_parameters",
    {
        "1": 6309386,
        "2": 6309386,
        "3": 14898186,
        "3r": 14898186,
        "4": 3511434,
        "4l2": 3511434,
        "4r": 3511434,
        "5": 14325386,
        "6": 4494474,
        "7": 808458,
        "8": 2125322,
        "9": 2125322,
        "10": 2207242,
    }.items(),
)
def test_networks_have_the_published_number_of_parameters(name, n_parameters):
    from avianspec.studies.music.networks import build_music_network, with_embedding

    model = build_music_network(name, (220, 216, 3) if name == "10" else (128, 128, 3), 10)
    assert model.count_params() == n_parameters
    assert with_embedding(model).output_shape == [(None, 10), (None, 128)]


def test_networks_say_what_they_need():
    from avianspec.studies.music.networks import build_music_network

    with pytest.raises(ValueError, match="no music network '11'; there are 1, 2, 3, 3r"):
        build_music_network("11", (128, 128, 3), 10)
    with pytest.raises(ValueError, match="music network 4 does not fit pictures of 12 x 12 pixels"):
        build_music_network("4", (12, 12, 3), 10)


def test_regularised_networks_are_penalised_and_the_others_are_not():
    from avianspec.studies.music.networks import build_music_network

    for name, n_penalties in {"1": 0, "2": 2, "3": 0, "3r": 3, "4": 0, "4l2": 4, "4r": 4, "5": 0, "7": 7}.items():
        assert len(build_music_network(name, (64, 64, 3) if name != "7" else (128, 128, 3), 4).losses) == n_penalties, (
            name
        )


def test_a_run_cut_off_and_started_again_gives_the_same_numbers(run, tmp_path):
    from avianspec.studies.music.study import music_training, train_music, train_network

    halted = folder_with_pictures(tmp_path / "halted")
    data = open_images(halted)
    train_network(data, music_training(QUICK | dict(epochs=1)), "track", progress=False)
    saved = list((halted / "training").glob("track-*.npz"))
    assert len(saved) == 1 and len(json.loads(str(np.load(saved[0])["history"]))) == 1
    train_music(data, music_training(QUICK), progress=False)
    for name in ("metrics.json", "history.csv", "confusion.csv", "split.csv"):
        assert (halted / name).read_bytes() == (run / name).read_bytes(), name


def test_metrics_agree_with_a_count_by_hand(run):
    metrics, predictions = json.loads((run / "metrics.json").read_text()), pd.read_parquet(run / "predictions.parquet")
    assert (metrics["task"], metrics["metric"], metrics["main_split"], metrics["n_classes"]) == (
        "single",
        "accuracy",
        "track",
        4,
    )
    for by in ("track", "clip"):
        scores, of_split = metrics["splits"][by], predictions[predictions.split == by]
        for part, s in {
            "test": scores["network"],
            "train": scores["network"]["train"],
            "validation": scores["network"]["validation"],
        }.items():
            rows = of_split[of_split.part == part]
            right = sum(p == t for p, t in zip(rows.predicted, rows.label, strict=True))
            assert s["n"] == scores[f"n_{part}"] == len(rows) and s["accuracy"] == round(right / len(rows), 6)
            loss = -np.mean([np.log(row[f"p_{metrics['classes'].index(row.label)}"]) for _, row in rows.iterrows()])
            assert s["loss"] == pytest.approx(loss, abs=1e-5)
            if rows.recording_id.nunique() < 6:
                assert s["interval"] == s["loss_interval"] == [None, None]
            else:
                assert s["interval"][0] <= s["accuracy"] <= s["interval"][1]
        assert scores["n_groups"] == of_split[of_split.part == "test"].recording_id.nunique()
        confusion = pd.read_csv(run / "confusion.csv").set_index("label")
    assert confusion.to_numpy().sum() == metrics["splits"]["track"]["n_test"]


def test_the_table_of_results_holds_time_accuracy_and_loss_of_every_part(run, tmp_path):
    from avianspec.scoring.jobs import Job, carry_out
    from avianspec.studies.music.contract import STUDY

    jobs = [Job("music-1", QUICK, 0, by, "test", run, tmp_path / by, tmp_path) for by in STUDY.splits]
    (tmp_path / "clip" / "training").mkdir(parents=True)  # as a training leaves it that was cut off
    assert [carry_out(STUDY.train, job, {}) for job in jobs] == ["", ""]
    first, second = STUDY.tables(jobs)["results"].splitlines()[2:4]
    scores = json.loads((run / "metrics.json").read_text())["splits"]
    for line, by in ((first, "track"), (second, "clip")):
        of = [scores[by]["network"][part] for part in ("train", "validation")] + [scores[by]["network"]]
        name, split, seeds, took, *cells, published = (cell.strip() for cell in line.strip("|").split("|"))
        assert (name, split, seeds) == ("**1**", f"by {by}", "1")
        assert cells == [f"{s[what]:.3f}" for what in ("accuracy", "loss") for s in of]
        assert (float(took) > 0, published) == (True, "–") if by == "track" else (took, published) == ("–", "0.581")


def test_knowing_the_track_is_worth_nothing_by_track_and_everything_by_clip(run):
    metrics = json.loads((run / "metrics.json").read_text())["splits"]
    assert metrics["track"]["no_audio"] == metrics["track"]["majority"]
    assert metrics["clip"]["no_audio"]["accuracy"] > 0.8 and metrics["clip"]["majority"]["accuracy"] <= 0.5


def test_there_is_an_embedding_and_a_place_on_the_map_for_every_test_clip(run):
    from avianspec.scoring.mistakes import embedding_map

    data, inner = open_images(run), pd.read_parquet(run / "embeddings.parquet")
    for by in ("track", "clip"):
        rows = inner[inner.split == by]
        assert list(rows.clip_id) == list(data.part(by, "test").clip_id)
        kept = rows.filter(like="e_")
        assert kept.shape[1] == 128 and embedding_map(kept.to_numpy()).shape == (len(rows), 2)


def test_a_track_is_classified_as_it_was_in_the_run(run):
    from avianspec.studies.music.study import classify_clips

    data = open_images(run)
    track, rows = data.items.iloc[0], pd.read_parquet(run / "predictions.parquet")
    again, kept = (
        classify_clips(run, track.path),
        rows[(rows.split == "track") & (rows.recording_id == track.recording_id)],
    )
    assert list(again.start_s) == [0, 3, 6]
    np.testing.assert_allclose(again.iloc[:, 1:], kept[[f"p_{k}" for k in range(4)]], atol=1e-5)
    about = json.loads((run / "model.json").read_text())
    assert about["classes"] == data.classes and about["front_end"]["size"] == 128 and about["n_parameters"] == 6308612


def test_a_network_of_pictures_that_say_nothing_of_their_resize_is_refused(run, tmp_path):
    from avianspec.learning.saved_model import load_saved_model

    shutil.copy(run / "model.keras", tmp_path)
    about = json.loads((run / "model.json").read_text())
    assert about["front_end"].pop("resize") == "bicubic"
    about["front_end_key"] = "0123456789ab"  # of settings without it
    (tmp_path / "model.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="of another version"):
        load_saved_model(tmp_path)


def test_small_pictures_are_means_of_spots():
    from avianspec.sound.pictures import small_pictures

    picture = np.zeros((1, 220, 216, 3), np.uint8)
    picture[0, :110, :, 0] = 255
    small = small_pictures(picture, 2).reshape(2, 2, 3)
    assert small[0, :, 0].tolist() == [1, 1] and small.sum() == 2
    with pytest.raises(ValueError, match="cannot be shrunk"):
        small_pictures(picture[:, :10], 16)


def test_every_network_of_the_study_is_in_the_catalogue():
    from avianspec.runs.catalogue import load_catalogue
    from avianspec.studies.music.networks import MUSIC_NETWORKS, MUSIC_PUBLISHED

    catalogue = {name: e for name, e in load_catalogue().items() if e.study == "music"}
    known = set(MUSIC_NETWORKS) | {"dictionary", "ours"}
    assert {e.parameters["network"] for e in catalogue.values()} == known and len(catalogue) == 17
    for name, (_, reported) in MUSIC_PUBLISHED.items():
        assert catalogue[f"music-{name}"].published == {"test accuracy": reported}
    assert catalogue["music-10"].parameters["image_size"] == 0 and catalogue["music-1"].parameters["patience"] == 0


def test_pictures_to_validate_on_stay_clean():
    from avianspec.sound.augmentation import Augmentation
    from avianspec.studies.music.study import music_training, part_images

    data, cfg = open_images(demo_images()), music_training(QUICK)
    changes = Augmentation(mixup=1, gain=6)
    training, *others = (part_images(data, "track", part, cfg, changes) for part in ("train", "validation", "test"))
    for part, batches in zip(("validation", "test"), others, strict=True):
        rows = data.part("track", part)
        x, y = (np.concatenate(z) for z in zip(*(batches[i] for i in range(len(batches))), strict=True))
        assert [data.classes[k] for k in y.argmax(axis=1)] == list(rows.label) and set(np.unique(y)) == {0, 1}
        np.testing.assert_array_equal(x, data.store.images[data.store.rows(rows.clip_id)] * np.float32(1 / 255))
    assert ((training[0][1] > 0) & (training[0][1] < 1)).any()
