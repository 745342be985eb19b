"""The command as a person types it: answers, one clear line per trouble, exit codes, never a traceback."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from avianspec.cli import main
from avianspec.files import write_json
from avianspec.learning.dataset import open_run

COMMAND = [sys.executable, "-c", "import sys; from avianspec.cli import main; sys.exit(main())"]


def shell(*words):
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, encoding="utf-8", cwd=ROOT)


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(trained, folder / "demo-12345678")
    write_json(folder / "demo-12345678" / "manifest.json", {"status": "done", "finished": "2026-01-01"})
    return folder


def test_identify_answers_good_files_and_names_bad_ones(runs, odd_files):
    folder, expected = odd_files
    table = open_run(runs / "demo-12345678").items
    bad = [n for n, (v, _) in expected.items() if v in ("unusable", "silent")]
    good = [n for n, (v, _) in expected.items() if v in ("usable", "damaged")]
    done = shell(
        "identify", *(folder / n for n in [*bad, *good]), table.path[0], "--runs", runs, "--csv", folder / "answers.csv"
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr + done.stdout
    complaints = [line for line in done.stderr.splitlines() if line.startswith("avianspec: ")]
    assert len(complaints) == len(bad) and len(done.stderr.splitlines()) == len(bad) + 1  # and the line on the network
    for name in bad:
        assert sum(f"{folder / name}: " in line for line in complaints) == 1
    answers = pd.read_csv(folder / "answers.csv")
    assert set(answers.path) == {str(folder / n) for n in good} | {table.path[0]}
    assert (answers.groupby("path").probability.sum() <= 1.00001).all() and (
        answers[answers["rank"] == 1].spans != ""
    ).all()
    for name in good:
        assert str(folder / name) in done.stdout


def test_identify_gives_spans_within_the_recording(runs, capsys):
    table = open_run(runs / "demo-12345678").items
    longest = table.loc[table.duration_s.idxmax()]
    assert main(["identify", longest.path, "--runs", str(runs), "--top", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == longest.path and len(lines) == 5
    ends = [
        float(span.split("–")[1])
        for line in lines[1:]
        if " s" in line
        for span in line.replace(" s", "").split("   ")[-1].split(", ")
    ]
    assert ends and max(ends) <= longest.duration_s + 0.1


def test_corrupt_recordings_are_answered_in_a_line_each(runs, shared_data):
    files = sorted((shared_data / "corrupt").glob("*.mp3"))
    done = shell("identify", *files, "--runs", runs)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    refused = {Path(line.split(": ")[1]).name for line in done.stderr.splitlines() if line.startswith("avianspec: ")}
    assert {"noise.mp3", "page.mp3", "empty.mp3", "tag_only.mp3", "silence.mp3"} == refused
    assert "damaged" in done.stdout and "really_ogg.mp3" in done.stdout


@pytest.mark.parametrize(
    "words, says",
    [
        (["run", "birds-v99"], "No experiment matches 'birds-v99'; there are birds-report"),
        (["run", "birds-v20", "--data", "/nowhere"], "/nowhere does not exist; give a folder of recordings"),
        (["run", "birds-v20", "--set", "netwrok=v17"], "No notebook takes the parameters netwrok"),
        (["run", "birds-v20", "--set", "seed"], "--set takes NAME=VALUE"),
        (["run", "birds-v20", "--set", "seed=["], "--set seed: '[' is not a value"),
        (["rerun", "nothing"], "There is no run nothing"),
    ],
)
def test_mistakes_are_answered_in_one_line(words, says, tmp_path):
    done = shell(
        *words, *(["--runs", tmp_path] if words[0] == "run" else []), *(["--quiet"] if words[0] == "run" else [])
    )
    assert done.returncode == 1 and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_identify_without_a_run_says_how_to_get_one(tmp_path):
    done = shell("identify", "a.mp3", "--runs", tmp_path)
    assert done.returncode == 1 and "avianspec run birds-report" in done.stderr


def test_help_of_every_command_is_worth_reading(capsys):
    with pytest.raises(SystemExit) as e:
        main(["--help"])
    text = capsys.readouterr().out
    assert e.value.code == 0
    for command in ("run", "list", "leaderboard", "rerun", "identify", "report"):
        assert re.search(rf"^    {command}\b", text, re.M)
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "usage: avianspec" in capsys.readouterr().out
    with pytest.raises(SystemExit) as e:
        main(["fly"])
    assert e.value.code == 2


def test_features_ahead_of_time_are_those_of_a_run_and_bad_files_are_named(odd_files, tmp_path):
    from avianspec.sound.features import FeatureConfig, extract
    from avianspec.stores.preprocessing import FeatureStore

    folder, expected = odd_files
    (tmp_path / "corpus" / "Wren").mkdir(parents=True)
    for name in expected:
        if (folder / name).is_file():
            shutil.copy(folder / name, tmp_path / "corpus" / "Wren" / name)
    done = shell("features", tmp_path / "corpus", "--output", tmp_path / "store", "--set", "n_mels=64", "--quiet")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    store = FeatureStore(tmp_path / "store", FeatureConfig(n_mels=64))
    assert len(store) == sum(v == "usable" for v, _ in expected.values()) and f"{len(store)} recordings" in done.stdout
    assert all(f"{row.path}: {row.verdict}: {row.reason}" in done.stderr for row in store.quarantine.itertuples())
    one = extract(tmp_path / "corpus" / "Wren" / "stereo.ogg", FeatureConfig(n_mels=64))
    assert (store["Wren/stereo.ogg"]["spectrogram"] == one["spectrogram"]).all()
    wrong = shell("features", tmp_path / "corpus", "--output", tmp_path / "other", "--set", "colour=red", "--quiet")
    assert (
        wrong.returncode == 1
        and wrong.stderr.startswith("avianspec: Features have no setting colour")
        and wrong.stderr.count("\n") == 1
    )


def test_versions_compares_experiments_on_recordings_of_ones_own(demo, tmp_path):
    from avianspec.data.recordings import read_table
    from avianspec.files import read_json

    table = read_table(demo / "recordings.csv")
    data = (
        Path(table.path[0]).parent.parent
        if (Path(table.path[0]).parent.parent / "recordings.csv").exists()
        else Path(table.path[0]).parent
    )
    words = (
        "versions",
        "birds-v20",
        "birds-mfcc",
        "--data",
        data,
        "--seeds",
        2,
        "--set",
        "final_epochs=1",
        "--set",
        "batch_size=16",
        "--set",
        "crop_seeds=1",
        "--runs",
        tmp_path / "runs",
        "--output",
        tmp_path / "out",
        "--quiet",
    )
    done = shell(*words)
    assert done.returncode == 0, done.stderr
    result = read_json(tmp_path / "out" / "versions.json")
    rows = {r["version"]: r for r in result["result"]}
    assert set(rows) == {"birds-v20", "birds-mfcc", "majority", "no_audio", "duration", "naive_bayes"}
    assert all(r["low"] <= r["value"] <= r["high"] and r["n_seeds"] == 2 for r in rows.values())
    assert {r["reference"] for name, r in rows.items() if name != "birds-v20"} == {"birds-v20"}
    page, people = (
        (tmp_path / "out" / "_versions.md").read_text(encoding="utf-8"),
        (tmp_path / "out" / "_attributions.md").read_text(encoding="utf-8"),
    )
    assert "--set final_epochs=1" in page and str(tmp_path) not in page and people.count("\n") == len(table) + 2
