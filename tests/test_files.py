"""Files that are whole or absent, and tables of other programs."""

import subprocess
import sys
from multiprocessing.pool import ThreadPool

import numpy as np
import pandas as pd
import pytest

from avianspec.files import (
    atomic,
    cache_folder,
    code_digest,
    file_sha256,
    read_json,
    read_text_table,
    write_json,
    write_table,
)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OSError, match="disk"):
        with atomic(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise OSError("disk full")
    assert (tmp_path / "a.txt").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_process_that_is_killed_leaves_no_half_file(tmp_path):
    code = (
        "import os, sys; from avianspec.files import atomic\n"
        "with atomic(sys.argv[1]) as temporary:\n    temporary.write_text('half'); os._exit(9)"
    )
    target = tmp_path / "a.txt"
    target.write_text("old")
    assert subprocess.run([sys.executable, "-c", code, str(target)]).returncode == 9
    assert target.read_text() == "old"


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path):
    def write(k):
        write_json(tmp_path / "a.json", [k] * 1000)

    with ThreadPool(8) as pool:
        pool.map(write, range(40))
    assert len(set(read_json(tmp_path / "a.json"))) == 1 and [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_values_come_back_as_json_can_hold_them(tmp_path):
    value = {"a": np.arange(3), 1: (np.float64(1 / 3), True, None), "b": {"c": np.inf, "d": np.bool_(True)}}
    write_json(tmp_path / "new" / "a.json", value)
    expected = {"a": [0, 1, 2], "1": [0.333333, True, None], "b": {"c": None, "d": True}}
    assert read_json(tmp_path / "new" / "a.json") == expected


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_tables_of_other_programs_are_read(tmp_path, separator, encoding):
    (tmp_path / "a.csv").write_bytes(separator.join(["Art", "Länge\nAmsel", "\n"]).encode(encoding))
    table = read_text_table(tmp_path / "a.csv", guess=True)
    assert table.to_dict("records") == [{"Art": "Amsel", "Länge": ""}]


def test_a_table_is_text_and_comes_back_as_it_was(tmp_path):
    table = pd.DataFrame({"id": ["007", "NA"], "note": ["a, b", 'say "x"\nagain']})
    write_table(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(read_text_table(tmp_path / "a.csv"), table)
    with pytest.raises(FileNotFoundError, match="does not exist; give a CSV"):
        read_text_table(tmp_path / "b.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match="is not a CSV table"):
        read_text_table(tmp_path / "empty.csv", guess=True)


def test_names_of_contents_change_with_them(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"abc")
    # published: SHA-256 of abc (FIPS 180)
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert code_digest("files") != code_digest("data.recordings")
    with pytest.raises(FileNotFoundError):
        code_digest("no_such_module")
    monkeypatch.setenv("AVIANSPEC_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
