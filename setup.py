"""Package metadata lives in settings.ini, which nbdev reads too; this file only passes it on to setuptools."""

import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
STUDY = ("nbs", "experiments", "report", "_quarto.yml", "index.qmd")  # what `project_root` looks for
settings = ConfigParser(delimiters=["="])
settings.read(here / "settings.ini", encoding="utf-8")
cfg = settings["DEFAULT"]



class BuildWithStudy(build_py):
    "Puts notebooks, catalogue, pages and theme into the package that is built, as its folder _share."

    def run(self):
        super().run()
        if self.editable_mode:
            return  # the clone has them
        share = Path(self.build_lib) / "avianspec" / "_share"
        shutil.rmtree(share, ignore_errors=True)
        share.mkdir(parents=True)
        for name in STUDY:
            copy = shutil.copytree if (here / name).is_dir() else shutil.copy
            more = dict(ignore=shutil.ignore_patterns(".*", "__pycache__", "*.pyc", "*.quarto_ipynb"))
            copy(here / name, share / name, **(more if copy is shutil.copytree else {}))


setup(
    cmdclass={"build_py": BuildWithStudy},
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    keywords=cfg["keywords"],
    license="MIT",
    packages=find_packages(include=["avianspec", "avianspec.*"]),
    package_data={"avianspec.report": ["templates/*.md"], "avianspec.field": ["templates/*.html"]},
    python_requires=f">={cfg['min_python']},<3.14",
    install_requires=cfg["requirements"].split(),
    extras_require={
        name: cfg[f"{name}_requirements"].split()
        for name in ("dev", "bench", "kaggle", "annotations", "birdnet", "onnx", "litert", "live", "wandb")
    },
    entry_points={"console_scripts": cfg["console_scripts"].split(), "nbdev": ["avianspec=avianspec._modidx:d"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "License :: OSI Approved :: MIT License",
    ],
)
