"""Run the job of a notebook (its plain imports, its parameters, all that follows) in this process, on a run folder."""

import json
from importlib import import_module
from pathlib import Path

import matplotlib

NOTEBOOKS = Path(__file__).parents[1] / "nbs"


def run_job(name: str, **parameters) -> dict:
    matplotlib.use("agg")
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    tagged = next(i for i, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", []))
    space = dict(vars(import_module(f"avianspec.{name.replace('/', '.')}")))
    sources = ["".join(c["source"]) for c in cells]
    imports = next(s for s in sources if not s.lstrip().startswith("#|") and "fastcore.test" in s)
    for source in [imports, sources[tagged]]:
        exec(source, space)
    space.update(parameters)
    for source in sources[tagged + 1 :]:
        exec(source, space)
    matplotlib.pyplot.close("all")
    return space
