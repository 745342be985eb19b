"""Whatever a stranger has written: a table keeps its columns, no tag or script comes through, no cell computes."""

import csv
import io
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avianspec.data.credits import attribution, attribution_markdown, write_credits
from avianspec.data.escaping import address, html, link, md, sheet
from avianspec.data.recordings import validate
from avianspec.files import read_text_table, write_table
from avianspec.report.markdown import md_table

HOSTILE = [
    "|",
    "\\",
    "<script>",
    "</td>",
    "](",
    "javascript:alert(1)",
    "//x.org/a|b",
    "\n",
    "\r",
    "`",
    "$",
    "&lt;",
    '"',
    "=",
]
words = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=8), max_size=6).map("".join)


def cells_of(line):
    "Cells of a row of a pipe table: split where a | has no backslash before it."
    out, cell, escaped = [], "", False
    for c in line.strip().removeprefix("|").removesuffix("|"):
        if c == "|" and not escaped:
            out, cell = [*out, cell], ""
        else:
            cell += c
        escaped = c == "\\" and not escaped
    return [*out, cell]


def bare(text, mark):
    "How often a mark stands in Markdown without a backslash before it."
    return len(re.findall(rf"(?<!\\)(?:\\\\)*{re.escape(mark)}", text))


@given(words, words, words)
def test_a_table_keeps_its_columns_and_no_tag_or_script_comes_through(a, b, url):
    text = md_table(["x", "y", "z"], [[md(a), md(b), link(a, url)]])
    assert len(text.splitlines()) == 3 and len(cells_of(text.splitlines()[2])) == 3
    assert bare(md(a), "<") == bare(md(a), "[") == bare(md(a), "`") == 0
    target = re.search(r"\]\(([^)]*)\)$", link(a, url))
    assert target is None or re.match(r"(?:https?:|mailto:)", target[1], re.I)
    assert not re.search(r"[<>\"'\s|]", address(url)) and "<" not in html(a) and '"' not in html(a)


@given(st.lists(words, min_size=1, max_size=3), words)
def test_credits_keep_their_columns(people, url):
    table = pd.DataFrame({"recording_id": [f"r{k}" for k in range(len(people))], "label": people, "path": "x"})
    rows = attribution(validate(table.assign(recordist=people, url=url, license=url, label=[f"x{p}" for p in people])))
    lines = attribution_markdown(rows).rstrip().splitlines()
    lines = lines[: lines.index("")] if "" in lines else lines
    assert {len(cells_of(line)) for line in lines} in ({4}, {2})
    assert not re.search(r"(?<!\\)<\w|\]\((?!https?:|mailto:)", "\n".join(lines))


@given(st.lists(words, min_size=1, max_size=4))
def test_no_cell_of_a_sheet_is_a_formula_and_nothing_is_lost(cells):
    written = sheet(pd.DataFrame({"recordist": cells, "n": range(len(cells))})).to_csv(index=False)
    read = [row[0] for row in csv.reader(io.StringIO(written, newline=""))][1:]
    assert len(read) == len(cells) and not [c for c in read if re.match(r"[=+@\t\r]|-(?!\d+(?:[.,]\d+)?$)", c)]
    assert [c.removeprefix("'") for c in read] == [c.replace("\r", " ").removeprefix("'") for c in cells]


@pytest.mark.parametrize(
    "url, kept",
    [
        ("https://xeno-canto.org/1", "https://xeno-canto.org/1"),
        ("//xeno-canto.org/1", "https://xeno-canto.org/1"),
        ("HTTP://x.org", "HTTP://x.org"),
        ("mailto:ana@x.org", "mailto:ana@x.org"),
        ("javascript:alert(1)", ""),
        ("JaVaScRiPt:alert(1)", ""),
        (" https://x.org", ""),
        ("data:text/html,x", ""),
        ("https://x.org/<script>", "https://x.org/%3Cscript%3E"),
        ("file:///etc/passwd", ""),
    ],
)
def test_only_addresses_of_web_and_mail_are_linked(url, kept):
    assert address(url) == kept and (link("x", url) == "x") == (not kept)


def test_attributions_of_hostile_people(tmp_path):
    who, url = "A|B <script>alert(1)</script>", "javascript:alert(1)"
    rows = validate(
        pd.DataFrame([dict(recording_id="r0", label="=1+1", path="x", recordist=who, url=url, license=url)])
    )
    write_credits(rows, tmp_path)
    page = (tmp_path / "CREDITS.md").read_text(encoding="utf-8")
    assert "<script>" not in page and "](" not in page and len(cells_of(page.splitlines()[4])) == 4
    assert "javascript" not in re.findall(r"howpublished.*", (tmp_path / "CREDITS.bib").read_text(encoding="utf-8"))
    assert read_text_table(tmp_path / "ATTRIBUTION.csv").label.tolist() == ["'=1+1"]


def test_tables_that_are_read_again_stay_as_they_are(tmp_path):
    table = pd.DataFrame({"recording_id": ["=a", "-b", "+c", "@d"], "label": ["x", "y|z", "<b>", "'q"]})
    write_table(tmp_path / "split.csv", table)
    assert read_text_table(tmp_path / "split.csv").reset_index(drop=True).equals(table)
