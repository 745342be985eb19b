"""Sphinx settings of the report without Quarto; avianspec.report.book copies it beside the converted chapters."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing import BracketStyle
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle

_book = json.loads(Path(__file__).with_name("book.json").read_text(encoding="utf-8"))

project = _book["title"]
author = _book["author"]
html_title = _book["title"]
language = "en"
extensions = ["myst_nb", "sphinxcontrib.bibtex"]
bibtex_bibfiles = ["report/references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "in_round_brackets"
exclude_patterns = ["report/results/_*", "extra"]

nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show code"
nb_code_prompt_hide = "Hide code"
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath", "smartquotes"]
myst_links_external_new_tab = False

html_theme = "sphinx_book_theme"
html_static_path = ["report/theme"]
html_css_files = ["avianspec.css"]
html_js_files = ["fold.js"]
html_favicon = "report/theme/favicon.svg"
html_baseurl = _book.get("site-url", "")
html_extra_path = ["extra"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_last_updated_fmt = None
html_theme_options = {
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "logo": {"text": _book["title"]},
    "navbar_persistent": [],
    "footer_content_items": ["extra-footer.html"],
    "extra_footer": "Code and text under the MIT licence; recordings keep their own. Rendered by Sphinx and MyST-NB.",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

if _book.get("repo-url"):  # "edit this page": pages that Sphinx reads as .md are .qmd in the project
    _at = f"{_book['repo-url']}/edit/{_book.get('repo-branch') or 'main'}"
    html_context = {"edit_page_url_template": _at + "/{{ file_name | replace('.md', '.qmd') }}"}
    html_theme_options |= {"repository_url": _book["repo-url"], "use_edit_page_button": True}

html_math_renderer = "mathml"


def _round():
    return BracketStyle(left="(", right=")")


@dataclass
class InRoundBrackets(AuthorYearReferenceStyle):
    "Authors and year as Quarto sets them: (Kahl et al. 2021), or Kahl et al. (2021)."

    bracket_textual: BracketStyle = field(default_factory=_round)
    bracket_parenthetical: BracketStyle = field(default_factory=_round)
    author_year_sep: str = "\u00a0"


register_plugin("sphinxcontrib.bibtex.style.referencing", "in_round_brackets", InRoundBrackets)


def _mathml(self, node):
    "Formulas as MathML: browsers set them without fetching a program."
    from docutils import nodes
    from docutils.utils.math.latex2mathml import tex2mathml

    self.body.append(tex2mathml(node.astext().strip(), as_block=isinstance(node, nodes.math_block)).strip())
    raise nodes.SkipNode


CARD = """<meta property="og:title" content="{title}"/><meta property="og:type" content="article"/>
<meta property="og:description" content="{about}"/><meta property="og:image" content="{image}"/>
<meta property="og:image:alt" content="A spectrogram of three whistles, and the name avianspec"/>"""


def _card(app, pagename, templatename, context, doctree):
    "What other sites show of a link to a page; its picture has an address only where the book has one."
    base = _book.get("site-url", "").rstrip("/")
    facts = {"title": context.get("title", project), "about": _book.get("subtitle", "")}
    plain = {k: re.sub("<[^>]+>", "", str(v)).replace('"', "&quot;") for k, v in facts.items()}
    context["metatags"] = context.get("metatags", "") + CARD.format(image=f"{base}/_static/card.png", **plain)


def _not_written(app, pagename, templatename, context, doctree):
    "No link to edit a page that a run has made: there is nothing to edit in the project."
    if str((context.get("meta") or {}).get("repo-actions")).lower() == "false":
        buttons = context.get("header_buttons", [])
        context["header_buttons"] = [b for b in buttons if b.get("label") != "source-edit-button"]


def _light(app, error):
    "Pages without the icon font, the heaviest thing that they would load; the theme's style sheet has signs instead."
    if error or app.builder.format != "html":
        return
    font = re.compile(r"<(script|link)[^>]*fontawesome[^>]*>(</script>)?")
    for page in Path(app.outdir).rglob("*.html"):
        page.write_text(font.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")
    static = Path(app.outdir, "_static")
    for file in [*static.glob("scripts/fontawesome*"), *static.glob("vendor/fontawesome/webfonts/*")]:
        file.unlink()
    for sheet in static.glob("styles/*.css"):
        faces = re.sub(r"@font-face\s*{[^}]*fontawesome[^}]*}", "", sheet.read_text(encoding="utf-8"))
        sheet.write_text(faces, encoding="utf-8")


def setup(app):
    app.add_html_math_renderer("mathml", (_mathml, None), (_mathml, None))
    app.connect("html-page-context", _card)
    app.connect("html-page-context", _not_written, priority=600)  # after the theme has put its buttons there
    app.connect("build-finished", _light)
