"""Files that are whole or absent, and tables of other programs."""

import csv
import io
import os
import re
import subprocess
import sys
from multiprocessing.pool import ThreadPool

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.files import (
    atomic,
    cache_folder,
    code_digest,
    file_sha256,
    numbers,
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
    table = read_text_table(tmp_path / "a.csv", detect=True)
    assert table.to_dict("records") == [{"Art": "Amsel", "Länge": ""}]


def test_a_table_is_text_and_comes_back_as_it_was(tmp_path):
    table = pd.DataFrame({"id": ["007", "NA"], "note": ["a, b", 'say "x"\nagain']})
    write_table(tmp_path / "a.csv", table)
    back = read_text_table(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(back.reset_index(drop=True), table)
    assert back.index.name == "line" and list(back.index) == [2, 3]
    with pytest.raises(FileNotFoundError, match="does not exist; give a CSV"):
        read_text_table(tmp_path / "b.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match="is not a CSV table"):
        read_text_table(tmp_path / "empty.csv", detect=True)


HEAD = "id,label,note\n"
ROWS = {  # what stands below HEAD: the lines that are read, and what is said of the others
    "separators at the end of rows": ("1,Tit,a,\n2,Tit,b,,\n", [2, 3], {}),
    "rows of separators, blank lines": ("1,Tit,a\n,,\n\n   \n,,,,,\n2,Tit,b\n,,", [2, 7], {}),
    "old and foreign ends of lines": ("1,Tit,a\r\n2,Tit,b\r3,Tit,c", [2, 3, 4], {}),
    "a cell too few": ("1,Tit,a\n2,Tit\n3,Tit,c\n", [2, 4], {3: "2 cells, where the header names 3"}),
    "a cell too many": ("1,Tit,a,b\n2,Tit,c\n", [3], {2: "4 cells, where the header names 3"}),
    "inches": ('1,Tit,5" away\n2,"Tit ""blue""",b\n', [2, 3], {}),
    "a mark that opens and never closes": ('1,Tit,a\n2,"Tit,b\n3,Tit,c\n', [2, 4], {3: "quotation mark"}),
    "two such": ('1,"Tit,a\n2,Tit,b\n3,"Tit,c\n4,"Tit, blue",d\n', [3, 5], {2: "quotation", 4: "quotation"}),
    "text behind the closing mark": ('1,"Tit"s,a\n2,Tit,b\n', [3], {2: "quotation mark"}),
    "a cell of two lines": ('1,Tit,"a\nb, c"\n2,Tit,d\n', [2, 4], {}),
    "a line too short within a long one": ('1,"Tit\n2,Tit,b"\n3,Tit,c\n', [4], {2: "2 cells"}),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_row_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path, kind):
    rows, read, named = ROWS[kind]
    (tmp_path / "a.csv").write_bytes((HEAD + rows).encode())
    aside = []
    table = read_text_table(tmp_path / "a.csv", set_aside=aside)
    assert list(table) == ["id", "label", "note"] and list(table.index) == read
    assert [line for line, _ in aside] == list(named)
    assert all(words in reason for words, (_, reason) in zip(named.values(), aside, strict=True))
    if named:
        with pytest.raises(ValueError, match=f"a.csv, line {min(named)}: .*{named[min(named)]}"):
            read_text_table(tmp_path / "a.csv")


@pytest.mark.parametrize("separator", ",;\t")
def test_a_forgotten_mark_does_not_swallow_a_row_of_another_programs_table(tmp_path, separator):
    lines = ["file,label,note", '1.wav,"Tit,a', '2.wav,Tit",b', "3.wav,Tit,c"]
    (tmp_path / "a.csv").write_text("\n".join(lines).replace(",", separator))
    aside = []
    table = read_text_table(tmp_path / "a.csv", detect=True, set_aside=aside)
    assert [line for line, _ in aside] == [2] and list(table.index) == [3, 4]
    if separator == "\t":  # where cells are not quoted at all, a mark is a letter
        (tmp_path / "a.txt").write_text('View\tAnnotation\tNote\n1\t"tsip" call\tx\n2\t"song\tx\n')
        assert list(read_text_table(tmp_path / "a.txt", detect=True).Annotation) == ['"tsip" call', '"song']


HEADERS = {  # bytes of a table: what is said of it
    b"": "a.csv is not a CSV table: it is empty",
    b"\xef\xbb\xbf\n\n": "a.csv is not a CSV table: it is empty",
    b",,\n": "a.csv is not a CSV table: it is empty",
    b"id,label,id\n": "a.csv, line 1: two columns have the same name: id;",
    b"id, label,label \n": "a.csv, line 1: two columns have the same name: label;",
    b'id,"label\n1,Tit\n': "a.csv, line 1: the header has a quotation mark too many",
    b"id,label\n1,T\0t\n": "a.csv, line 2: NUL bytes",
    b"id,label\n1,Tit\n" + bytes(5000): "a.csv, line 3: NUL bytes",
    b"PK\x03\x04\x14\0": "a.csv is a spreadsheet or an archive",
    "id,label\n1,Zaunkönig\n".encode() + b"2,Zaunk\xf6nig\n": "a.csv, line 3: not in UTF-8",
    b"id,label\n1,\x81\n": "a.csv, line 2: not in UTF-8. Save the table as CSV UTF-8, or convert it: iconv",
    "id,label\n".encode("utf-16") + b"1": "a.csv, line 2: not in UTF-8",
}


@pytest.mark.parametrize("raw", HEADERS)
def test_what_is_no_table_is_named_with_what_it_is(tmp_path, raw):
    (tmp_path / "a.csv").write_bytes(raw)
    with pytest.raises(ValueError, match=re.escape(HEADERS[raw])):
        read_text_table(tmp_path / "a.csv", detect=True)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path, words in {tmp_path / "pipe.csv": "pipe or a device", "/dev/zero": "device", tmp_path: "folder"}.items():
        with pytest.raises(ValueError, match=words):
            read_text_table(path, detect=True)


def test_a_header_alone_is_a_table_without_rows(tmp_path):
    (tmp_path / "a.csv").write_text("id, label,,\n")
    table = read_text_table(tmp_path / "a.csv")
    assert list(table) == ["id", "label"] and len(table) == 0 and table.index.name == "line"


def test_numbers_are_read_however_decimals_are_marked():
    written = {"1.5": 1.5, "-1,5": -1.5, " 2 ": 2, "1.234.567,5": 1234567.5, "1,234.5": 1234.5, "1e3": 1000, ",5": 0.5}
    values = numbers(pd.Series(list(written)))
    assert values.dtype == float and values.tolist() == list(written.values())
    assert numbers(pd.Series(["", "N", "52°", "1e999", "nan", "inf", "1,2,3", "1_0", "0x1"])).isna().all()
    assert numbers(pd.Series([1, np.inf, np.nan])).tolist()[:1] == [1] and numbers(pd.Series([np.inf])).isna().all()


@pytest.mark.parametrize("said", ["", "sep=;\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_a_spreadsheets_table_is_read_in_every_encoding_it_offers(tmp_path, encoding, said):
    (tmp_path / "a.csv").write_bytes((said + "Datei;Art;Länge, s\r\n1.wav;Zaunkönig;1,5\r\n").encode(encoding))
    table = read_text_table(tmp_path / "a.csv", detect=True)
    assert table.to_dict("records") == [{"Datei": "1.wav", "Art": "Zaunkönig", "Länge, s": "1,5"}]
    assert numbers(table["Länge, s"]).tolist() == [1.5] and list(table.index) == [2 + bool(said)]


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252")
CELLS = st.text(st.sampled_from("aZ09é ,;\t\"'.\n\r#"), max_size=6)


@st.composite
def written_tables(draw):  # cells; how they are written: separator, encoding, end of lines, what is quoted, blank lines
    width = draw(st.integers(2, 4))
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=5))
    dialect = dict(delimiter=draw(st.sampled_from(",;\t")), lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])))
    quoting = csv.QUOTE_ALL if any("\n" in c or "\r" in c for r in rows for c in r) else csv.QUOTE_MINIMAL
    blank = draw(st.lists(st.sampled_from(["", " ", dialect["delimiter"] * width]), max_size=3))
    return rows, dialect | {"quoting": quoting}, draw(st.sampled_from(ENCODINGS)), blank, draw(st.booleans())


@given(written_tables(), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_or_its_line_is_named(tmp_path_factory, written, random):
    rows, dialect, encoding, blank, cut = written
    text, lines = io.StringIO(newline=""), {}
    writer, end = csv.writer(text, **dialect), dialect["lineterminator"]
    writer.writerow([f"c{k}" for k in range(len(rows[0]) if rows else 2)])
    faulty = random.choice(range(len(rows))) if cut and rows else None
    for k, row in enumerate(rows):
        line = len(re.findall("\r\n|\n|\r", text.getvalue())) + 1
        writer.writerow(row[:-1] if k == faulty else row)
        text.write("".join(b + end for b in blank))
        if "".join(row[:-1] if k == faulty else row).strip():
            lines[line] = None if k == faulty else row
    path = tmp_path_factory.mktemp("tables") / "a.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    aside = []
    table = read_text_table(path, detect=True, set_aside=aside)
    named = {line for line, _ in aside}
    assert named or list(table.index) == list(lines)
    for line, row in lines.items():
        assert (line in named) != (line in table.index and list(table.loc[line]) == row)


def test_a_doubtful_cell_over_two_lines_costs_no_row_after_it(tmp_path):
    "Found by the test above: both lines of the first row could be rows, and the second opens a quotation mark."
    (tmp_path / "a.csv").write_bytes(b'"c0","c1"\n"","\r,"\n"""\r",""\n"x","y"\n')
    aside = []
    table = read_text_table(tmp_path / "a.csv", detect=True, set_aside=aside)
    assert [line for line, _ in aside] == [2, 3]
    assert dict(zip(table.index, table.values.tolist(), strict=True)) == {4: ['"\r', ""], 6: ["x", "y"]}
    (tmp_path / "b.csv").write_text('a,b\n1,"robin\n2,wren"\n3,jay\n', encoding="utf-8")  # two marks astray
    aside.clear()
    table = read_text_table(tmp_path / "b.csv", detect=True, set_aside=aside)
    assert [line for line, _ in aside] == [2] and table.loc[4].tolist() == ["3", "jay"]


def test_names_of_contents_change_with_them(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"abc")
    # published: SHA-256 of abc (FIPS 180)
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert code_digest("files") != code_digest("data.recordings")
    with pytest.raises(FileNotFoundError):
        code_digest("no_such_module")
    monkeypatch.setenv("AVIANSPEC_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
