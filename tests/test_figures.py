"""Every picture of the book has a caption, words for those who do not see it, a label, and a place in the text."""

import re

import pytest
from conftest import ROOT

from avianspec.files import read_json
from avianspec.report import book, conversion, notebooks

PAGES = [path for path, _ in book.listed_chapters(ROOT)]
PICTURE = re.compile(r"^!\[(.*)\]\(([^()\s]+)\)(\{[^}\n]*\})?[ \t]*$", re.M)
KEYS = re.findall(r"^@\w+\{(\w+),$", (ROOT / "report/references.bib").read_text(encoding="utf-8"), re.M)


def figures_of(path):
    "(label, caption, alternative text) of every picture of a page or notebook, as the sources say it."
    file = ROOT / path
    if file.suffix != ".ipynb":
        text = conversion.expand_includes(book.page_text(file), file, ROOT)
        for caption, _, braces in PICTURE.findall(text):
            label, _, values = conversion.attributes(braces)
            yield label, caption, values.get("fig-alt", "")
        return
    for cell in read_json(file)["cells"]:
        options = conversion.cell_options("".join(cell["source"]))[0] if cell["cell_type"] == "code" else {}
        if notebooks.has_picture(cell) or str(options.get("label", "")).startswith("fig-"):
            yield tuple(str(options.get(name, "")) for name in ("label", "fig-cap", "fig-alt"))


def words_of(path):
    "What a page says, outside code."
    file, found = ROOT / path, []
    text = book.page_text(file)
    if file.suffix != ".ipynb":
        text = conversion.expand_includes(text, file, ROOT)
    conversion.outside_code(text, lambda s: found.append(s) or s)
    return "\n".join(found)


def test_every_picture_has_caption_words_label_and_a_reference():
    exceptions = []
    for path in PAGES:
        named = set(re.findall(conversion.REFERENCE, words_of(path)))
        for label, caption, alt in figures_of(path):
            what = {
                "no label": not label.startswith("fig-"),
                "no caption": len(caption.split()) < 3,
                "no alternative text": len(alt.split()) < 5 or alt == caption or "/" in alt.split()[0],
                "no reference in its chapter": label not in named,
            }
            exceptions += [f"{path}: {label or caption or '?'}: {name}" for name, missing in what.items() if missing]
    assert not exceptions, "\n".join(exceptions)


def test_pictures_are_counted():
    "So that the test above is not about nothing."
    found = [label for path in PAGES for label, _, _ in figures_of(path)]
    assert len(found) > 140 and len(set(found)) == len(found)


@pytest.mark.parametrize("path", sorted((ROOT / "avianspec/report/templates").glob("*.md")), ids=lambda p: p.stem)
def test_pictures_of_templates_have_them_too(path):
    for caption, target, braces in PICTURE.findall(path.read_text(encoding="utf-8")):
        label, _, values = conversion.attributes(braces)
        assert label.startswith("fig-") and len(caption.split()) >= 3 and len(values["fig-alt"].split()) >= 5, target
        assert f"@{label}" in path.read_text(encoding="utf-8"), label


def test_whatever_is_cited_is_listed_and_whatever_is_listed_is_cited():
    cited = {key for path in PAGES for key in conversion.cited_keys(words_of(path))}
    assert cited == set(KEYS) and len(KEYS) == len(set(KEYS)) > 30


def test_a_cell_with_several_pictures_becomes_several_figures():
    shown = [dict(output_type="display_data", metadata={}, data={kind: "x"}) for kind in ("text/html", "image/png")]
    source = '#| label: fig-a\n#| fig-cap: "A: b"\n#| fig-alt: "Two lines: c."\nplot()'
    cell = dict(cell_type="code", id="a", metadata={}, source=source, outputs=[*shown, shown[1]])
    at = conversion.Conversion("nbs/sound/x.ipynb", [], {"fig-a": "Figure 1.1"}, conversion.Headings(1))
    table, first, second = book.convert_notebook({"cells": [cell]}, at)["cells"]
    assert "mystnb" not in table["metadata"] and table["source"] == "plot()"
    assert (
        first["metadata"]["mystnb"]["figure"]["name"] == "fig-a"
        and second["metadata"]["mystnb"]["figure"]["name"] == "fig-a-2"
    )
    assert first["metadata"]["mystnb"]["image"] == {"alt": "Two lines, c."} and first["metadata"]["tags"] == [
        "remove-input"
    ]


def test_a_picture_without_a_row_here_is_noticed(monkeypatch, tmp_path):
    page = tmp_path / "a.qmd"
    page.write_text("# A\n\n![](p.png)\n", encoding="utf-8")
    monkeypatch.setattr("test_figures.ROOT", tmp_path)
    monkeypatch.setattr("test_figures.PAGES", ["a.qmd"])
    with pytest.raises(AssertionError, match="no alternative text"):
        test_every_picture_has_caption_words_label_and_a_reference()
