"""What an installed package looks like to Python: a folder of metadata next to its modules."""

import tomllib
from collections.abc import Mapping
from pathlib import Path


def install(site: Path, package: str, points: Mapping[str, Mapping[str, str]], modules: Mapping[str, str]) -> Path:
    """Write modules and the metadata of a package with entry points.

    Args:
        site: Folder, to be put on ``sys.path``.
        package: Name of the package.
        points: Value of each entry point, by group and name.
        modules: Content of each file, by path.
    """
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in named.items()) for group, named in points.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for path, content in modules.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(content)
    return site


def install_files(site: Path, files: Mapping[str, str]) -> Path:
    """Write a package from its files, ``pyproject.toml`` among them."""
    project = tomllib.loads(files["pyproject.toml"])["project"]
    modules = {path: text for path, text in files.items() if path != "pyproject.toml"}
    return install(site, project["name"], project["entry-points"], modules)
