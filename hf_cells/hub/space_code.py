"""The code of a Space: the modules that the app needs, copied flat, so that it runs without this package."""

import ast
import importlib
import importlib.util
from pathlib import Path

_PACKAGE = __name__.partition(".")[0]


def copy_modules(module: str, folder: Path) -> list[str]:
    """Copy a module of this package, and all of the package that it imports, into one flat folder.

    Imports between them become single-dot ones; those of other packages stay, and so does an import inside `try`,
    which the module can do without.

    Args:
        module: Such as "hf_cells.hub.demo_app.interface".
        folder: Where to; made where missing.

    Returns:
        Names of the copied modules, without packages.

    Raises:
        ValueError: Two modules have one name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text(
        '"""Copied from hf-cells, so that the app needs no package of ours."""\n'
    )
    places: dict[str, str] = {}
    waiting = [module]
    while waiting:
        place = waiting.pop()
        name = place.rpartition(".")[2]
        if places.setdefault(name, place) != place:
            raise ValueError(f"{place} and {places[name]} have one name; rename one")
        if (folder / f"{name}.py").exists():
            continue
        text, needed = _flattened(place)
        (folder / f"{name}.py").write_text(text, "utf-8")
        waiting += needed
    return sorted(places)


def _flattened(module: str) -> tuple[str, list[str]]:
    """Source of a module with single-dot imports, and the modules of this package that it imports."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).read_text("utf-8")
    lines, needed = source.splitlines(), []
    tree = ast.parse(source)
    optional = {inner for node in ast.walk(tree) if isinstance(node, ast.Try) for inner in ast.walk(node)}
    for node in sorted(_imports(tree), key=lambda node: -node.lineno):
        if node in optional:
            continue
        target = "." * node.level + (node.module or "")
        target = importlib.util.resolve_name(target, module.rpartition(".")[0])
        if target.partition(".")[0] != _PACKAGE:
            continue
        origins: dict[str, list[str]] = {}
        for alias in node.names:
            kept = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
            origins.setdefault(_origin(target, alias.name), []).append(kept)
        indent = " " * node.col_offset
        lines[node.lineno - 1 : node.end_lineno] = [
            f"{indent}from .{origin.rpartition('.')[2]} import {', '.join(names)}"
            for origin, names in origins.items()
        ]
        needed += list(origins)
    return "\n".join(lines) + "\n", needed


def _imports(tree: ast.AST) -> list[ast.ImportFrom]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def _origin(target: str, name: str) -> str:
    """The module that a name comes from, where it is imported from a package that gathers names."""
    module = importlib.import_module(target)
    if not hasattr(module, "__path__"):
        return target
    return str(getattr(module, name).__module__)
