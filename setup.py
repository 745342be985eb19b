"""Package metadata lives in settings.ini, which nbdev reads too; this file only passes it on to setuptools."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
settings = ConfigParser(delimiters=["="])
settings.read(here / "settings.ini", encoding="utf-8")
cfg = settings["DEFAULT"]

setup(
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
        name: cfg[f"{name}_requirements"].split() for name in ("dev", "bench", "kaggle", "annotations", "birdnet", "onnx", "litert", "live", "wandb")
    },
    entry_points={"console_scripts": cfg["console_scripts"].split(), "nbdev": ["avianspec=avianspec._modidx:d"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "License :: OSI Approved :: MIT License",
    ],
)
