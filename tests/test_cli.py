"""The command as a person types it: answers, one clear line per trouble, exit codes, never a traceback."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, tone

from avianspec.cli import main
from avianspec.files import write_json
from avianspec.learning.dataset import open_run
from avianspec.report.command_line import log_file

MANIFEST = {"status": "done", "finished": "2026-01-01", "contract": "avianspec.studies.birds.contract:STUDY"}
COMMAND = [sys.executable, "-c", "import sys; from avianspec.cli import main; sys.exit(main())"]


def shell(*words):
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, encoding="utf-8", cwd=ROOT)


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(trained, folder / "demo-12345678")
    write_json(folder / "demo-12345678" / "manifest.json", MANIFEST)
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
        (["run", "birds-v99"], "No experiment matches 'birds-v99'. Did you mean birds-v20 or"),
        (["run", "birds-v20", "--data", "/nowhere"], "/nowhere does not exist; give a folder of recordings"),
        (["run", "birds-v20", "--set", "netwrok=v17"], "No notebook takes the parameters netwrok"),
        (["run", "birds-v20", "--set", "seed"], "--set takes NAME=VALUE"),
        (["run", "birds-v20", "--set", "seed=["], "--set seed: '[' is not a value"),
        (["rerun", "nothing", "--runs", "nowhere"], "There is no run nothing; make one: avianspec run birds-report"),
    ],
)
def test_mistakes_are_answered_in_one_line(words, says, tmp_path):
    done = shell(
        *words, *(["--runs", tmp_path] if words[0] == "run" else []), *(["--quiet"] if words[0] == "run" else [])
    )
    assert done.returncode == 1 and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_nothing_at_all_says_what_to_do_next_in_five_lines(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 5 and all(line.startswith("avianspec ") for line in out) and max(map(len, out)) <= 120


def test_a_slip_names_the_next_command(capsys):
    for words, says in {
        ("reprot",): "There is no command reprot; did you mean avianspec report?",
        ("fly",): "There is no command fly. All commands: avianspec --help",
        ("run",): "see: avianspec run --help",
        ("fetch", "nowhere"): "see: avianspec fetch --help",
    }.items():
        with pytest.raises(SystemExit) as e:
            main(list(words))
        err = capsys.readouterr().err
        assert e.value.code == 2 and says in err and len(err.splitlines()) == 1


NEWCOMER = {  # what is typed in a folder with nothing but a text in it; what the answer names
    "leaderboard": "avianspec run birds-report",
    "identify a.wav": "avianspec run birds-report",
    "tag texts": "avianspec run birds-report",
    "listen": "avianspec run birds-report",
    "rerun mine": "avianspec run birds-report",
    "export mine --to b.tflite": "avianspec run birds-report",
    "report brids-report": "Did you mean birds-report",
    "run birds-99": "avianspec list",
    "new mine --like bird": "avianspec list",
    "new .": "avianspec new DIR",
    "run birds-v20 --data nowhere": "give a folder of recordings",
    "run birds-v20 --data texts": "Put one subfolder per label there",
    "report --data texts": "Put one subfolder per label there",
    "versions birds-* --data nowhere": "give a folder of recordings",
    "versions birds-* --data texts": "Put one subfolder per label there",
    "audit texts": "Put one subfolder per label there",
    "features texts": "Put one subfolder per label there",
    "check nowhere": "give files or folders of recordings",
    "check texts": "holds no sound files",
    "presence tags": "avianspec tag PATH --output tags",
    "review tags": "avianspec tag PATH --output tags",
    "handon tags --to out": "avianspec tag PATH --output tags",
    "fetch xeno-canto": "--query 'gen:turdus cnt:France'",
}


@pytest.mark.parametrize("typed", NEWCOMER)
def test_an_error_of_a_newcomer_says_how_to_go_on(typed, tmp_path, monkeypatch, capfd):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("no sound")
    monkeypatch.chdir(tmp_path)
    words = typed.split()
    if words[0] in ("leaderboard", "identify", "tag", "listen", "rerun", "export", "report", "run", "versions"):
        words += ["--runs", str(tmp_path / "runs")]
    assert main(words) == 1
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith("avianspec: ") and NEWCOMER[typed] in told[0]


def test_every_command_can_be_quiet_and_verbose(tmp_path, capfd, monkeypatch):
    from avianspec.cli import _parser

    for words in (["list"], ["tag", "x"], ["review", "x"], ["fetch", "own", "x"], ["new", "x"], ["report"]):
        assert not _parser().parse_args(words).quiet and _parser().parse_args([*words, "--quiet"]).quiet
        assert _parser().parse_args([*words, "--verbose"]).verbose
    monkeypatch.chdir(tmp_path)
    assert main(["audit", "nowhere", "--verbose"]) == 1
    told = capfd.readouterr().err
    assert "Traceback" in told and told.splitlines()[-1].startswith("avianspec: nowhere does not exist")


def test_identify_without_a_run_says_how_to_get_one(tmp_path):
    done = shell("identify", "a.mp3", "--runs", tmp_path)
    assert done.returncode == 1 and "avianspec run birds-report" in done.stderr


def test_identify_without_a_run_asks_no_other_study(runs, tmp_path):
    studies = {
        "newest": "avianspec.studies.music.contract:STUDY",
        "older": "gone:STUDY",
        "oldest": MANIFEST["contract"],
    }
    for k, (name, contract) in enumerate(studies.items()):
        shutil.copytree(runs / "demo-12345678", tmp_path / name)
        facts = dict(MANIFEST, contract=contract, finished=f"2026-01-0{5 - k}")
        write_json(tmp_path / name / "manifest.json", facts)
    path = open_run(runs / "demo-12345678").items.path[0]
    assert "known to oldest" in shell("identify", path, "--runs", tmp_path).stderr
    assert "known to newest" in shell("identify", path, "--runs", tmp_path, "--run", "newest").stderr
    shutil.rmtree(tmp_path / "oldest")
    done = shell("identify", path, "--runs", tmp_path)
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
    assert "--set final_epochs=1" in page and str(tmp_path) not in page and people.count("\n") == len(table) + 6


LATE = {
    "a folder that is not there": (["identify", "a.wav", "--csv", "{tmp}/no/a.csv"], "there is no folder {tmp}/no"),
    "a folder for a file": (["identify", "a.wav", "--csv", "{tmp}"], "{tmp} is a folder; name a file in it"),
    "an audit onto a folder": (["audit", "{tmp}", "--write", "{tmp}"], "{tmp} is a folder; name a file in it"),
    "a file for a folder": (
        ["features", "{tmp}", "--output", "{tmp}/file/store"],
        "{tmp}/file is a file; name another",
    ),
    "tables into a file": (["check", "{tmp}", "--output", "{tmp}/file"], "{tmp}/file is a file; name another"),
    "a report into a file": (["report", "birds-v20", "--output", "{tmp}/file"], "{tmp}/file is a file; name another"),
    "a report over something": (
        ["report", "birds-v20", "--output", "{tmp}"],
        "{tmp} holds something that is no report",
    ),
    "data without an end": (["run", "birds-v20", "--data", "/dev/zero"], "/dev/zero is a pipe or a device"),
    "data from a pipe": (["versions", "birds-v20", "--data", "{tmp}/pipe"], "{tmp}/pipe is a pipe or a device"),
    "a split from a pipe": (["audit", "{tmp}", "--split", "{tmp}/pipe"], "{tmp}/pipe is a pipe or a device"),
    "own recordings of a device": (["fetch", "own", "/dev/zero"], "/dev/zero is a pipe or a device"),
    "a run that is not there": (["identify", "a.wav", "--run", "nobody"], "There is no run nobody"),
    "a report of no run": (["report", "nobody"], "There is no run nobody"),
    "a parameter of the comparison": (
        ["versions", "birds-*", "--data", "{tmp}", "--set", "final_epochs=abc"],
        "final_epochs is a whole number of 1 or more; got 'abc'",
    ),
    "a parameter of a run": (
        ["run", "birds-v20", "--set", "seed=abc"],
        "seed is a whole number of 0 or more; got 'abc'",
    ),
}


@pytest.mark.parametrize("case", LATE)
def test_what_cannot_come_to_an_end_is_refused_before_it_begins(case, tmp_path, capfd):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    words, says = LATE[case]
    assert main([word.format(tmp=tmp_path) for word in words]) == 1
    out, err = capfd.readouterr()
    assert says.format(tmp=tmp_path) in err and err.count("\n") == 1 and out == ""


def test_a_folder_that_may_not_be_written_is_refused(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # whoever runs the tests may write anywhere
    table, folder = ["--csv", f"{tmp_path}/a.csv"], ["--output", f"{tmp_path}/x"]
    for words in (["identify", "a.wav", *table], ["check", str(tmp_path), *folder]):
        assert main(words) == 1 and "may not" in capfd.readouterr().err


def test_what_nobody_has_foreseen_is_a_line_and_a_log(tmp_path, monkeypatch, capfd):
    import avianspec.runs.catalogue as catalogue

    def broken(*words):
        return np.zeros(0).max()

    log_file.cache_clear()
    monkeypatch.setenv("AVIANSPEC_CACHE", str(tmp_path))
    monkeypatch.setattr(catalogue, "load_catalogue", broken)
    try:
        assert main(["list"]) == 1
        err = capfd.readouterr().err
        (log,) = (tmp_path / "logs").glob("*.log")
        assert err.count("\n") == 1 and err.startswith("avianspec: ValueError: zero-size array")
        assert f"(details in {log})" in err and "Traceback" not in err
        assert "Traceback" in log.read_text(encoding="utf-8") and "in broken" in log.read_text(encoding="utf-8")
    finally:
        log_file.cache_clear()


def test_chatter_of_libraries_goes_to_the_log_and_warnings_of_ours_are_a_sentence_once(tmp_path):
    script = """
import logging, os, sys, warnings
import numpy
from avianspec import cli
from avianspec.files import Note

def noisy(args):
    os.write(2, b"of a decoder\\n")
    logging.getLogger("some.library").warning("of a library")
    warnings.warn_explicit("divide by zero", RuntimeWarning, numpy.__file__, 1)
    for k in range(2):
        warnings.warn("Two files were passed over.", Note)
    print("the answer")
    return 0

cli.COMMANDS["list"] = (noisy, {})
noisy.__doc__ = "List."
sys.exit(cli.main(["list"]))
"""
    here = os.environ | {"AVIANSPEC_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", cwd=ROOT, env=here)
    assert (done.returncode, done.stdout) == (0, "the answer\n")
    assert done.stderr == "avianspec: Two files were passed over.\n"
    (log,) = (tmp_path / "logs").glob("*.log")
    text = log.read_text(encoding="utf-8")
    assert all(words in text for words in ("of a decoder", "of a library", "RuntimeWarning: divide by zero"))


def test_a_quiet_command_leaves_no_log(tmp_path):
    here = os.environ | {"AVIANSPEC_CACHE": str(tmp_path)}
    done = subprocess.run([*COMMAND, "list"], capture_output=True, encoding="utf-8", cwd=ROOT, env=here)
    assert done.returncode == 0 and done.stderr == "" and not list((tmp_path / "logs").glob("*"))


def test_features_that_are_there_are_said_to_be_there_with_their_day(tmp_path, capfd):
    import soundfile as sf

    (tmp_path / "birds" / "Wren").mkdir(parents=True)
    sf.write(tmp_path / "birds" / "Wren" / "a.wav", tone(1.0), 22050)
    words = ["features", str(tmp_path / "birds"), "--output", str(tmp_path / "store")]
    assert main(words) == 0 and "nothing has changed since" not in capfd.readouterr().err
    assert main(words) == 0 and re.search(r"done on \d{4}-\d\d-\d\d, nothing has changed", capfd.readouterr().err)


def test_no_room_is_known_before_anything_comes(tmp_path, capfd):
    listed = dict(id="XC1", sha256="0" * 64, url="https://xeno-canto.org/1", species="Turdus merula", bytes=1e18)
    pd.DataFrame([listed]).to_csv(tmp_path / "pinned.csv", index=False)
    assert main(["fetch", "pinned", str(tmp_path / "pinned.csv"), "--output", str(tmp_path / "out")]) == 1
    assert "would come; free some" in capfd.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", sorted(p.name for p in (ROOT / "benchmarks").glob("*.py") if p.name != "timing.py"))
def test_a_benchmark_that_cannot_run_ends_with_one_line(script, tmp_path):
    words = ["--sets", "0"] if script.startswith("interval_") else ["/nowhere"]
    path = ROOT / "benchmarks" / script
    code = f"import sys, runpy; sys.modules['resampy'] = None; sys.argv = {[str(path), *words]!r}\n"
    code += f"sys.path.insert(0, {str(path.parent)!r}); runpy.run_path({str(path)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=tmp_path)
    assert done.returncode and "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if not line.startswith("usage:") and line[:1] != " "]) == 1
