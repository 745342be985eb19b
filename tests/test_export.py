"""Models as files for others: the same answers, nothing but LiteRT's own operations, and what cannot be written so."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from test_dictionaries import SMALL, whistle
from test_listeners import NET

from avianspec.cli import main
from avianspec.files import file_sha256, write_json
from avianspec.learning import export
from avianspec.learning.converters import PRECISIONS, is_installed, litert_operations
from avianspec.learning.dataset import open_run
from avianspec.learning.export import agreement, drawn_windows, export_model, export_run, exported_facts
from avianspec.learning.interpreters import FileListener, FileNetwork
from avianspec.learning.listeners import Listener, ListenerConfig, listener_windows, train_listener
from avianspec.learning.saved_model import SavedModel, load_saved_model, save_model
from avianspec.learning.settings import WindowConfig
from avianspec.learning.tasks import Task
from avianspec.scoring.open_set import open_set_facts, read_open_set
from avianspec.sound.features import FeatureConfig, log_mel
from avianspec.sound.pictures import ImageConfig
from avianspec.sound.whitening import FINE
from avianspec.stores.embeddings import EmbeddingConfig
from avianspec.stores.preprocessing import build_store
from avianspec.stores.store import note_store
from avianspec.stores.waves import WaveConfig

TWO_LENGTHS = replace(SMALL, lengths=(8, 16))
ONE_BY_ONE = replace(NET, loss="binary", steps=10)
ONNX = pytest.mark.skipif(
    not (is_installed("tf2onnx") and is_installed("onnxruntime")), reason="optional: pip install 'avianspec[onnx]'"
)
FORMS = ["m.tflite", pytest.param("m.onnx", marks=ONNX), "m"]


def windows_of(listener, heard):
    return listener_windows(listener.cfg, heard)[0]


def said(path, windows):
    "What a file says of windows, by TensorFlow's interpreter; float32, (n, n_classes)."
    import tensorflow as tf

    run = tf.lite.Interpreter(model_path=str(path)).get_signature_runner()
    n = len(next(iter(windows.values())))
    rows = [run(**{name: x[k : k + 1].astype(np.float32) for name, x in windows.items()}) for k in range(n)]
    return np.concatenate([next(iter(row.values())) for row in rows])


def listening(model):
    return SavedModel(model, Task(model.classes), "listener", FINE, network=model.name, split="recordist")


def learnt(cfg):
    heard = [log_mel(whistle((2000, 5000)[k % 2], k), FINE) for k in range(12)]
    return train_listener(heard, ["low", "high"] * 6, [f"m{k}" for k in range(12)], cfg, progress=False)


def alone(listener, k):
    member, cfg = listener.members[k], listener.cfg
    cfg = ListenerConfig(None, cfg.residual) if k else ListenerConfig(cfg.dictionary, None)
    return Listener(cfg, listener.classes, (member,))


@pytest.fixture(scope="module")
def listener():
    return learnt(ListenerConfig(SMALL, NET))


@pytest.fixture(scope="module")
def birds():
    "A network with the layers and the size of v20, random weights, and windows."
    from avianspec.learning.models import conv_net, keras

    keras.utils.set_random_seed(0)
    labels = tuple(f"bird {k:02d}" for k in range(91))
    net = conv_net((128, 128, 1), 91, name="v20")
    x = np.random.default_rng(0).standard_normal((40, 128, 128, 1)).astype(np.float32)
    return SavedModel(net, Task(labels), "spectrogram", FeatureConfig(), WindowConfig(128)), x


def test_a_listener_and_its_members_say_of_windows_what_they_say_of_the_recording(listener, tmp_path):
    for model in (listener, alone(listener, 0), alone(listener, 1)):
        facts = export_model(listening(model), tmp_path / "m.tflite")
        assert [g["name"] for g in facts["inputs"]] == [
            name for m in model.members for name in (["coarse"] if m.name == "dictionary" else ["fine"])
        ]
        for seed, hz, seconds in ((60, 2000, 7.3), (61, 5000, 4.0), (62, 3300, 5.5)):
            heard = log_mel(whistle(hz, seed, seconds), FINE)
            x, _ = model.windows_of(heard)
            found = said(tmp_path / "m.tflite", windows_of(model, heard))
            np.testing.assert_allclose(found, model.predict_on_batch(x), atol=1e-4)


def test_patches_of_several_lengths_and_labels_each_for_itself_are_the_same_too(tmp_path):
    model = learnt(ListenerConfig(TWO_LENGTHS, ONE_BY_ONE))
    export_model(listening(model), tmp_path / "m.tflite")
    heard = log_mel(whistle(2500, 70, 6.0), FINE)
    x, _ = model.windows_of(heard)
    found = said(tmp_path / "m.tflite", windows_of(model, heard))
    np.testing.assert_allclose(found, model.predict_on_batch(x), atol=1e-4)
    silent = {name: np.zeros_like(x[:1]) for name, x in windows_of(model, heard).items()}
    assert agreement(tmp_path / "m.tflite", listening(model), silent)["largest_difference"] < 1e-4


def test_fewer_bits_are_smaller_and_hear_nearly_the_same(listener, tmp_path):
    saved, heard = listening(listener), [log_mel(whistle((2000, 5000)[k % 2], 80 + k), FINE) for k in range(24)]
    each = [windows_of(listener, x) for x in heard]
    calibration, others = (
        {name: np.concatenate([w[name] for w in some]) for name in each[0]} for some in (each[:8], each[8:])
    )
    facts = {p: export_model(saved, tmp_path / f"{p}.tflite", p, calibration, others) for p in PRECISIONS}
    same = {p: facts[p]["agreement"]["same_first"] for p in PRECISIONS}
    assert same["float32"] == 1 and same["float16"] >= 0.995 and same["int8"] >= 0.98, same
    assert facts["float32"]["agreement"]["largest_difference"] < 1e-4
    assert facts["float16"]["agreement"]["largest_difference"] < 0.01
    size = {p: (tmp_path / f"{p}.tflite").stat().st_size for p in PRECISIONS}
    assert size == {p: facts[p]["n_bytes"] for p in PRECISIONS}
    assert max(size["int8"], size["float16"]) < size["float32"]  # of so few weights int8 leaves many as they are
    assert agreement(tmp_path / "int8.tflite", saved, others) == facts["int8"]["agreement"]


def test_a_network_of_the_size_of_v20_fits_a_phone(birds, tmp_path):
    import tensorflow as tf

    saved, x = birds
    facts = {p: export_model(saved, tmp_path / f"{p}.tflite", p, dict(window=x[:20])) for p in PRECISIONS}
    np.testing.assert_allclose(
        said(tmp_path / "float32.tflite", dict(window=x)), saved.model.predict_on_batch(x), atol=1e-4
    )
    assert facts["float16"]["n_bytes"] < 0.6 * facts["float32"]["n_bytes"] and facts["int8"]["n_bytes"] < 95_000
    net = tf.lite.Interpreter(model_path=str(tmp_path / "int8.tflite"))
    ends = [*net.get_input_details(), *net.get_output_details()]
    assert {d["dtype"] for d in ends} == {np.float32} and facts["int8"]["inputs"][0]["shape"] == [1, 128, 128, 1]
    kinds = [np.dtype(d["dtype"]).name for d in net.get_tensor_details()]
    assert kinds.count("int8") > 10 and kinds.count("float32") == 2  # its two ends, nothing between


def test_what_is_written_beside_says_what_goes_in_and_what_comes_out(birds, tmp_path):
    saved, _ = birds
    made = export_model(saved, tmp_path / "birds.tflite")
    text = json.loads((tmp_path / "birds.tflite.json").read_text(encoding="utf-8"))
    assert exported_facts(tmp_path / "birds.tflite") == text == json.loads(json.dumps(made))
    assert text["labels"] == saved.classes and text["precision"] == "float32" and text["agreement"] is None
    assert text["window_s"] == pytest.approx(128 * saved.front_end.frame_s)
    assert FeatureConfig(**text["front_end"]) == saved.front_end and WindowConfig(**text["windows"]) == saved.windows
    assert (
        text["operations"] == litert_operations((tmp_path / "birds.tflite").read_bytes(), "birds.tflite")
        and "CONV_2D" in text["operations"]
    )


def test_an_exported_network_is_loaded_and_asked_like_the_model_itself(birds, listener, tmp_path):
    saved, x = birds
    export_model(saved, tmp_path / "birds.tflite")
    again = load_saved_model(tmp_path / "birds.tflite")
    assert isinstance(again.model, FileNetwork) and again.classes == saved.classes
    for name in ("kind", "front_end", "windows", "window_s", "task", "split"):
        assert getattr(again, name) == getattr(saved, name)
    assert {n: (s.mean, s.std) for n, s in again.statistics.items()} == {
        n: (s.mean, s.std) for n, s in saved.statistics.items()
    }
    np.testing.assert_allclose(again.model.predict_on_batch(x), saved.model.predict_on_batch(x), atol=1e-4)
    export_model(listening(listener), tmp_path / "listener.tflite")
    assert isinstance(load_saved_model(tmp_path / "listener.tflite").model, FileListener)
    (tmp_path / "birds.tflite").write_bytes(b"TFL3")
    with pytest.raises(ValueError, match="birds.tflite is no network that LiteRT can run"):
        load_saved_model(tmp_path / "birds.tflite").model.predict_on_batch(x)


def test_pictures_and_waves_are_exported_too(tmp_path):
    from avianspec.learning.models import conv_net
    from avianspec.studies.tagging.networks import build_tagging_network

    rng, several = np.random.default_rng(0), Task(("bark", "meow", "purr"), multi_label=True)
    wave = build_tagging_network("wave", several, (8000, 1))
    models = [
        SavedModel(conv_net((64, 96, 3), 2), Task(("a", "b")), "picture", ImageConfig()),
        SavedModel(wave, several, "wave", WaveConfig(), window_s=0.5),
    ]
    for saved in models:
        shape = saved.model.inputs[0].shape[1:]
        windows = {saved.model.inputs[0].name: rng.random((6, *shape)).astype(np.float32)}
        facts = export_model(saved, tmp_path / "m.tflite", check=windows)
        assert facts["agreement"]["largest_difference"] < 1e-4 and facts["labels"] == saved.classes


def test_an_operation_of_tensorflow_alone_is_refused_and_nothing_is_left(tmp_path):
    import tensorflow as tf

    from avianspec.learning.models import keras, layers

    window = keras.Input((8, 8, 1), name="window")
    odd = layers.Softmax()(layers.Flatten()(layers.Lambda(tf.math.digamma)(window)))
    saved = SavedModel(keras.Model(window, odd, name="odd"), Task(tuple("ab")), "spectrogram", FeatureConfig())
    with pytest.raises(ValueError, match="odd cannot be written with the operations of LiteRT"):
        export_model(saved, tmp_path / "odd.tflite")
    assert not list(tmp_path.iterdir())
    converter = tf.lite.TFLiteConverter.from_keras_model(saved.model)
    converter.allow_custom_ops = True
    with pytest.raises(ValueError, match="custom.tflite needs Digamma"):
        litert_operations(converter.convert(), "custom.tflite")
    with pytest.raises(ValueError, match="text.tflite is no file of LiteRT"):
        litert_operations(b"this is no network", "text.tflite")


def test_a_file_that_is_missing_or_changed_is_not_asked(birds, tmp_path):
    saved, x = birds
    path, windows = tmp_path / "birds.tflite", dict(window=x[:2])
    with pytest.raises(FileNotFoundError, match="birds.tflite does not exist; write it with: avianspec export"):
        agreement(path, saved, windows)
    export_model(saved, path)
    with pytest.raises(ValueError, match="knows other labels"):
        agreement(path, replace(saved, task=Task(tuple("ab"))), windows)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="birds.tflite is not the file that birds.tflite.json tells of"):
        agreement(path, saved, windows)
    path.write_bytes(whole)
    assert agreement(path, saved, windows)["same_first"] == 1
    (tmp_path / "birds.tflite.json").unlink()
    with pytest.raises(FileNotFoundError, match="birds.tflite.json does not exist"):
        exported_facts(path)


def test_what_cannot_be_exported_is_refused(birds, tmp_path, monkeypatch):
    saved, x = birds
    for path, precision, why in (
        ("birds.pb", "float32", "SavedModel, to a folder; got birds.pb"),
        ("birds.onnx", "int8", r"int8 is for \*.tflite; ONNX is written in float32"),
        ("birds", "float16", r"float16 is for \*.tflite; SavedModel is written in float32"),
        ("birds.tflite", "int4", "precision is one of float32, float16, int8; got 'int4'"),
        ("birds.tflite", "int8", "int8 needs calibration"),
    ):
        with pytest.raises(ValueError, match=why):
            export_model(saved, tmp_path / path, precision)
    outside = SavedModel(
        None, saved.task, "outside", EmbeddingConfig("net", "0" * 64, 32000, 5.0, 8), network="outside"
    )
    with pytest.raises(ValueError, match="a network from outside"):
        export_model(outside, tmp_path / "birds.tflite")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(ValueError, match="unset KERAS_BACKEND, which is jax"):
        export_model(saved, tmp_path / "birds.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", FORMS)
def test_recordings_shorter_than_a_window_are_answered_as_by_the_listener(form, listener, tmp_path):
    two = learnt(ListenerConfig(replace(TWO_LENGTHS, active_share=0.5), None)) if form == "m.tflite" else None
    for model in (listener, alone(listener, 0), alone(listener, 1), *([two] if two else [])):
        export_model(listening(model), tmp_path / form)
        file = load_saved_model(tmp_path / form).model
        for seconds in (0.1, 0.33, 0.62, 1.2, 1.96):
            short = log_mel(whistle(2000, 90, seconds), FINE)
            (x, ends), (own, same) = file.windows_of(short), model.windows_of(short)
            assert len(x) == len(own) == 1 and ends.tolist() == same.tolist()
            np.testing.assert_allclose(file.predict_on_batch(x), model.predict_on_batch(own), atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_a_listener_in_a_file_hears_recordings_as_the_listener_does(form, listener, tmp_path):
    facts = export_model(listening(listener), tmp_path / form)
    assert facts["n_bytes"] > 10_000 and exported_facts(tmp_path / form) == json.loads(json.dumps(facts))
    again = load_saved_model(tmp_path / form)
    assert (again.kind, again.classes, again.model.name) == ("listener", list(listener.classes), "ours")
    for seed, hz, seconds in ((60, 2000, 7.3), (62, 3300, 1.5)):
        heard = log_mel(whistle(hz, seed, seconds), FINE)
        (x, ends), (own, same) = again.model.windows_of(heard), listener.windows_of(heard)
        assert ends.tolist() == same.tolist() and len(x) == len(own)
        np.testing.assert_allclose(again.model.predict_recording(heard), listener.predict_recording(heard), atol=1e-4)


@pytest.mark.parametrize("form", FORMS[1:])
def test_every_form_of_a_network_gives_what_keras_gives(form, birds, tmp_path):
    saved, x = birds
    facts = export_model(saved, tmp_path / form, check=dict(window=x[:9]))
    assert facts["agreement"]["largest_difference"] < 1e-4 and facts["agreement"]["same_first"] == 1
    again = load_saved_model(tmp_path / form)
    np.testing.assert_allclose(again.model.predict_on_batch(x), saved.model.predict_on_batch(x), atol=1e-4)
    assert {p.name for p in tmp_path.iterdir()} == {form, f"{form}.json"}
    with pytest.raises(ValueError, match=r"windows for window are of shape \(128, 128, 1\); got \(100, 128, 1\)"):
        again.model.predict_on_batch(x[:, :100])


@ONNX
@pytest.mark.parametrize("name", ["v16", "v20", "two_branches", "deeper", "wave", "mfcc", "compact"])
def test_networks_of_every_study_are_written_as_onnx(name, tmp_path):
    from avianspec.studies.birds.networks import NETWORKS, build_network
    from avianspec.studies.music.networks import build_music_network
    from avianspec.studies.tagging.networks import build_tagging_network

    onnx, several = pytest.importorskip("onnx"), Task(("bark", "meow", "purr"), multi_label=True)
    if name in NETWORKS:
        saved = SavedModel(build_network(name, (96, 128, 1), 3), Task(tuple("abc")), "spectrogram", FINE)
    elif name == "compact":
        saved = SavedModel(build_music_network(name, (64, 96, 3), 2), Task(tuple("ab")), "picture", ImageConfig())
    else:
        shape = (8000, 1) if name == "wave" else (128, 40, 1)
        saved = SavedModel(build_tagging_network(name, several, shape), several, "wave", WaveConfig(), window_s=0.5)
    given = saved.model.inputs[0]
    x = np.random.default_rng(0).random((3, *given.shape[1:])).astype(np.float32)
    facts = export_model(saved, tmp_path / "m.onnx", check={given.name: x})
    assert facts["agreement"]["largest_difference"] < 1e-4 and facts["operations"]
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)


def test_what_writes_and_runs_onnx_is_optional(birds, tmp_path, monkeypatch):
    for name in ("tf2onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"m.onnx needs tf2onnx, not installed here: pip install 'avianspec\[onnx\]'"):
        export_model(birds[0], tmp_path / "m.onnx")
    export_model(birds[0], tmp_path / "m.tflite")
    for suffix in ("", ".json"):
        (tmp_path / f"m.tflite{suffix}").rename(tmp_path / f"m.onnx{suffix}")
    with pytest.raises(
        ValueError, match=r"m.onnx needs onnxruntime, not installed here: pip install 'avianspec\[onnx\]'"
    ):
        load_saved_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("form", FORMS)
def test_tag_and_identify_ask_a_file_like_its_model(form, listener, tmp_path, capfd):
    for seed, seconds in enumerate((6.5, 1.3)):  # the second one is shorter than a window
        sf.write(tmp_path / f"{seed}.wav", whistle(5000, seed, seconds), FINE.sr)
    save_model(tmp_path / "run" / "model.npz", listening(listener))
    export_model(listening(listener), tmp_path / form)
    sounds, heard = [str(tmp_path / f"{seed}.wav") for seed in (0, 1)], []
    for model in ("run", form):
        where = ["--run", str(tmp_path / model), "--runs", str(tmp_path)]
        assert main(["tag", *sounds, *where, "--output", str(tmp_path / f"{model} tags"), "--quiet"]) == 0
        assert main(["identify", *sounds, *where, "--csv", str(tmp_path / f"{model}.csv")]) == 0
        tags, names = pd.read_csv(tmp_path / f"{model} tags" / "detections.csv"), pd.read_csv(tmp_path / f"{model}.csv")
        assert len(tags) >= 2 and len(names) == 4
        heard.append((tags, names))
    capfd.readouterr()
    for mine, others in zip(*heard, strict=True):
        pd.testing.assert_frame_equal(mine, others, atol=1e-4)
    settings = json.loads((tmp_path / f"{form} tags" / "settings.json").read_text(encoding="utf-8"))
    assert settings["model"]["sha256"] == exported_facts(tmp_path / form)["sha256"]


def test_a_file_notices_what_it_does_not_know_as_its_model_does(listener, tmp_path, capfd):
    run, sound = tmp_path / "run", tmp_path / "night.wav"
    sf.write(sound, whistle(5000, 0, 6.5), FINE.sr)
    save_model(run / "model.npz", listening(listener))
    write_json(run / "manifest.json", {"status": "done", "finished": "2026-01-01"})
    p = np.array([[0.999, 0.001], [0.001, 0.999]] * 6)  # nothing less sure than that keeps its name
    found = open_set_facts(p, pd.Series(["high", "low"] * 6), listener.classes, np.arange(12), 0.9)
    setting = dict(recording=found, window=found, n_classes=2, model=file_sha256(run / "model.npz")[:16])
    write_json(run / "open_set.json", setting)
    assert exported(tmp_path, "--to", tmp_path / "m.tflite", run="run") == 0
    assert read_open_set(tmp_path / "m.tflite") == read_open_set(run) is not None
    capfd.readouterr()
    heard = []
    for model in ("run", "m.tflite"):
        where = ["--run", str(tmp_path / model), "--runs", str(tmp_path)]
        assert main(["identify", str(sound), *where, "--csv", str(tmp_path / "names.csv")]) == 0
        assert main(["tag", str(sound), *where, "--output", str(tmp_path / f"{model} tags"), "--quiet"]) == 0
        tags = pd.read_csv(tmp_path / f"{model} tags" / "detections.csv")
        heard.append((pd.read_csv(tmp_path / "names.csv").unknown, len(tags)))
    (unknown, n), other = heard
    assert unknown.notna().all() and n == 0 and unknown.equals(other[0]) and other[1] == 0


def test_a_folder_with_other_things_is_left_alone(birds, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("a good day", encoding="utf-8")
    with pytest.raises(ValueError, match="notes is a folder with other things in it"):
        export_model(birds[0], tmp_path / "notes")
    assert (tmp_path / "notes" / "diary.txt").exists()


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory):
    "A run that is done, as the commands find it."
    runs = tmp_path_factory.mktemp("runs")
    shutil.copytree(trained, runs / "demo")
    write_json(runs / "demo" / "manifest.json", {"status": "done", "finished": "2026-01-01"})
    return runs


def exported(runs, *words, run="demo"):
    return main(["export", run, "--runs", str(runs), "--quiet", *map(str, words)])


def test_the_command_writes_the_model_of_a_run(runs, tmp_path, capfd):
    for precision in PRECISIONS:
        assert exported(runs, "--to", tmp_path / f"{precision}.tflite", "--precision", precision) == 0
        out, err = capfd.readouterr()
        assert out.startswith(f"{tmp_path / precision}.tflite   ") and f" in {precision}, " in out and err == ""
        found = exported_facts(tmp_path / f"{precision}.tflite")["agreement"]
        assert f"the same first label in {found['same_first']:.1%} of {found['n_windows']} windows" in out
        assert found["same_first"] >= dict(float32=1, float16=0.995, int8=0.9)[precision]
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json"] * 3 + [".tflite"] * 3


def test_windows_come_from_the_recordings_that_it_learnt_from_and_no_other(runs, tmp_path, monkeypatch):
    drawn = []

    def spy(saved, store, ids, n):
        drawn.append(set(ids))
        return drawn_windows(saved, store, ids, n)

    monkeypatch.setattr(export, "drawn_windows", spy)
    export_run(runs / "demo", tmp_path / "m.tflite", "int8", progress=False)
    data = open_run(runs / "demo")
    split = load_saved_model(runs / "demo").split
    training = set(data.fold(split, data.folds(split)[0]).part(split, "train").recording_id)
    assert drawn[0] | drawn[1] == training and not drawn[0] & drawn[1] and len(drawn) == 2


def test_a_listener_beside_a_network_is_exported_with_its_own_features(runs, listener, tmp_path, capfd):
    run = shutil.copytree(runs / "demo", tmp_path / "runs" / "demo")
    save_model(run / "listener" / "model.npz", listening(listener))
    of_network = open_run(run).store
    shutil.copytree(of_network.folder, tmp_path / "features" / "of the network")
    note_store(run / "features.json", tmp_path / "features" / "of the network", of_network.config)
    assert exported(tmp_path / "runs", "--to", tmp_path / "m.tflite", "--precision", "int8") == 0
    assert "how far the file is from the model was not measured: " in capfd.readouterr().err
    build_store(open_run(run).items, FINE, tmp_path / "features" / FINE.key, progress=False)
    assert exported(tmp_path / "runs", "--to", tmp_path / "m.tflite") == 0
    out = capfd.readouterr().out
    assert "ours in float32" in out and "  coarse (1, 100, 48): " in out and "  fine (1, 100, 96, 1): " in out
    assert exported_facts(tmp_path / "m.tflite")["agreement"]["largest_difference"] < 1e-4


def test_other_recordings_may_show_how_large_numbers_grow(runs, tmp_path, monkeypatch, capfd):
    run = shutil.copytree(runs / "demo", tmp_path / "runs" / "demo")
    for k, path in enumerate(open_run(run).items.path[:4]):
        (tmp_path / "own" / f"bird {k % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "own" / f"bird {k % 2}")
    for name in ("nbs", "experiments"):
        (tmp_path / name).mkdir()
    (tmp_path / "settings.ini").touch()
    monkeypatch.chdir(tmp_path)
    words = ["--precision", "int8", "--data", tmp_path / "own"]
    (run / "features.json").unlink()
    assert exported(tmp_path / "runs", "--to", "m.tflite", *words) == 0
    assert exported_facts("m.tflite")["agreement"]["n_windows"] > 50
    assert exported(tmp_path / "runs", "--to", "m.tflite") == 0
    assert "was not measured: " in (err := capfd.readouterr().err) and "demo has no features.json" in err
    assert exported_facts("m.tflite")["agreement"] is None


def test_the_command_says_in_a_line_what_is_missing(runs, tmp_path, capfd):
    assert exported(runs, "--to", tmp_path / "m.pb") == 1
    said = "avianspec: Models are exported to *.tflite, *.onnx or, as SavedModel, to a folder; got m.pb.\n"
    assert capfd.readouterr().err == said
    run = shutil.copytree(runs / "demo", tmp_path / "runs" / "demo")
    (run / "model.keras").unlink()
    assert exported(tmp_path / "runs", "--to", tmp_path / "m.tflite") == 1
    assert "model.keras does not exist; give the folder of a finished run." in capfd.readouterr().err
    assert main(["export", "nowhere", "--runs", str(runs), "--to", str(tmp_path / "m.tflite")]) == 1
    assert "There is no run nowhere" in capfd.readouterr().err
    assert not (tmp_path / "m.tflite").exists()
