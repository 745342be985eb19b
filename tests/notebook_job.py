"""Run the job of a notebook (its plain imports, its parameters, all that follows) in this process, on a given run folder."""

import json
from pathlib import Path

import matplotlib

NOTEBOOKS = Path(__file__).parents[1] / "nbs"


def run_job(name: str, module: str, **parameters) -> dict:
    matplotlib.use("agg")
    cells = [c for c in json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    tagged = next(i for i, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", []))
    space = dict(vars(__import__(f"avianspec.{module}", fromlist=["*"])))
    sources = ["".join(c["source"]) for c in cells]
    imports = next(s for s in sources if not s.startswith("#|") and "fastcore.test" in s)
    for source in [imports, sources[tagged]]:
        exec(source, space)
    space.update(parameters)
    for source in sources[tagged + 1 :]:
        exec(source, space)
    matplotlib.pyplot.close("all")
    return space
