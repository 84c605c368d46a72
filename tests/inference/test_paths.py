"""Files, folders and patterns become images; images become names that do not collide."""

from pathlib import Path

import pytest

from hf_cells.errors import CellsError
from hf_cells.inference.paths import iter_image_paths, output_names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = "img10.png img2.PNG img1.tif notes.txt .hidden.png sub/x1.jpg sub/.cache/y.png sub/b/z.webp"
    for name in [*names.split(), "__MACOSX/img1.png", "empty/readme.md"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def relative(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_folder_in_natural_order_without_hidden_files(folder):
    found = relative(iter_image_paths(folder), folder)
    assert found == ["img1.tif", "img2.PNG", "img10.png", "sub/b/z.webp", "sub/x1.jpg"]


def test_files_folders_and_patterns_mix_and_no_image_comes_twice(folder):
    given = [folder / "sub", str(folder / "img*"), folder / "notes.txt", folder / "sub" / ".." / "img1.tif"]
    found = relative(iter_image_paths(given), folder)
    assert found == ["sub/b/z.webp", "sub/x1.jpg", "img1.tif", "img2.PNG", "img10.png", "notes.txt"]
    assert relative(iter_image_paths(str(folder / "**" / "*.webp")), folder) == ["sub/b/z.webp"]
    assert relative(iter_image_paths(str(folder / "su?")), folder) == ["sub/b/z.webp", "sub/x1.jpg"]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    path = tmp_path / "plate[1].png"
    path.touch()
    assert iter_image_paths(path) == [path]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("none.png", "none.png: no such file"),
        ("empty", "empty: holds no image"),
        ("*.bmp", "no image matches this pattern"),
        ("note*", "no image matches this pattern"),
    ],
)
def test_nothing_found_is_an_error(folder, given, message):
    with pytest.raises(CellsError, match=message.replace("*", r"\*")):
        iter_image_paths([folder / "img1.tif", folder / given])


def test_no_paths_is_an_error():
    with pytest.raises(CellsError, match="no images given"):
        iter_image_paths([])


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["p/a.png", "q/b.png"], ["a", "b"]),
        (["p/a.png", "q/a.png", "q/b.png"], ["p/a", "q/a", "b"]),
        (["p/x/a.png", "p/y/A.tif"], ["x/a", "y/A"]),
        (["p/a.png", "p/a.tif", "p/c.png"], ["a.png", "a.tif", "c"]),
        (["p/a.png", "a.png"], ["p/a", "a"]),
        (["a.png", "a.tif", "a.tif.png"], ["a.png", "a.tif", "a.tif.png"]),
    ],
)
def test_names(paths, names):
    assert output_names([Path(path) for path in paths]) == names
