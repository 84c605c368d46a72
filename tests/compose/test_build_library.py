"""Libraries from drawn sources of every kind, and what is said of broken ones."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from smears import RED, discs, write_boxes, write_masks

from hf_cells.compose import build_library, read_library, simulate_library
from hf_cells.compose.adapter_masks import cut_white_cell, pair_masks, read_classes
from hf_cells.compose.classes import CLASS_NAMES, RED_CELL_DIAMETER, class_of
from hf_cells.compose.library import write_library
from hf_cells.compose.source_files import SourceFiles
from hf_cells.compose.stain import GLASS, REFERENCE_DENSITY
from hf_cells.errors import CellsError

WHITE_CELLS = ["1", "2", "3", "4", "5", "1", "1"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    write_masks(root / "masks", WHITE_CELLS)
    write_boxes(root / "boxes")
    for folder, count in (("Parasitized", 3), ("Uninfected", 4)):
        (root / "single" / folder).mkdir(parents=True)
        for number in range(count):
            image = discs((80, 80), [(40, 40, 30, RED)])
            y, x = np.mgrid[:80, :80]
            image[np.hypot(x - 40, y - 40) > 31] = 0
            name = f"C{number}P{number}thinF_IMG_2015_cell_{number}.png"
            Image.fromarray(image).save(root / "single" / folder / name)
    return root


@pytest.fixture(scope="module")
def built(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(
        tmp_path_factory.mktemp("built") / "library",
        masks=[sources / "masks"],
        boxes=[sources / "boxes"],
        single_cells=[sources / "single"],
    )


def test_every_cell_is_cut_and_has_its_class(built):
    counts = {name: counter.total() for name, counter in read_library(built).counts().items()}
    assert counts["neutrophil"] == 3 and counts["lymphocyte"] == counts["basophil"] == 1
    assert counts["infected_rbc"] == 3 + 3 and counts["healthy_rbc"] == 3 * 8 + 4
    assert counts["thrombocyte"] == 6 and counts["platelet_clump"] >= 3
    places = [path.name for path in built.iterdir()]
    assert "index.parquet" in places and len(places) == 1 + len(CLASS_NAMES) - 1


def test_all_sources_have_one_scale_and_one_stain(built):
    samples = read_library(built).samples
    red = [s for s in samples if s.class_name == "healthy_rbc"]
    assert {s.source for s in red} == {"boxes", "single"}
    for sample in red:
        assert abs(sample.diameter - RED_CELL_DIAMETER) < 1.5
    for sample in (s for s in samples if s.class_name == "neutrophil"):
        assert abs(sample.diameter - 2 * RED_CELL_DIAMETER) < 4  # radius 30 among red cells of 15
    for kind, name in (("red", "healthy_rbc"), ("white", "neutrophil"), ("platelet", "thrombocyte")):
        for sample in (s for s in samples if s.class_name == name):
            inside = sample.rgba[sample.rgba[..., 3] == 255][:, :3]
            density = -np.log(inside / GLASS).mean(0)
            assert np.abs(density - REFERENCE_DENSITY[kind]).max() < 0.12, (name, density)


def test_masks_are_soft_and_follow_the_cell(built):
    for sample in read_library(built).samples:
        alpha = sample.rgba[..., 3]
        assert alpha.max() == 255 and ((alpha > 0) & (alpha < 255)).any()
        assert not alpha[[0, -1]].all() and (sample.height, sample.width) == alpha.shape
        if sample.source == "boxes":
            area = np.pi / 4 * sample.diameter**2
            assert abs((alpha >= 128).sum() / area - 1) < 0.25


def test_the_index_tells_where_a_sample_is_from(built):
    samples = read_library(built).samples
    by_id = {sample.sample_id: sample for sample in samples}
    assert len(by_id) == len(samples)
    singles = [sample for sample in samples if sample.source == "single"]
    assert {sample.patient for sample in singles} == {f"C{i}P{i}" for i in range(4)}
    assert all(s.patient is None for s in samples if s.source != "single")
    for clump in (sample for sample in samples if sample.class_name == "platelet_clump"):
        parts = [by_id[name] for name in clump.built_from.split(";")]
        assert clump.source == "built" and {part.class_name for part in parts} == {"thrombocyte"}
        assert {part.split for part in parts} == {clump.split}
        assert clump.source_image == ";".join(sorted({part.source_image for part in parts}))
    assert all(s.built_from is None for s in samples if s.class_name != "platelet_clump")


def test_a_zip_and_pascal_voc_give_the_same_cells(sources, built, tmp_path):
    voc = write_boxes(tmp_path / "boxes", pack="voc")
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
        for path in sorted((sources / "masks").rglob("*")):
            archive.write(path, path.relative_to(sources / "masks"))
    again = build_library(
        tmp_path / "library", masks=[tmp_path / "masks.zip"], boxes=[voc], single_cells=[sources / "single"]
    )
    for one, other in zip(read_library(built).samples, read_library(again).samples, strict=True):
        assert one.sample_id == other.sample_id and one.source_image == other.source_image
        assert (one.rgba == other.rgba).all()


def test_the_same_seed_draws_the_same_library(library_folder, tmp_path):
    again = simulate_library(tmp_path / "again", per_class=3, seed=5)
    one, other = ({p.name: p.read_bytes() for p in f.glob("*/*.png")} for f in (library_folder, again))
    assert one == other and len(one) > 24
    splits = read_library(again).counts()
    assert all(set(count) == {"train", "validation", "test"} for count in splits.values())


def test_masks_are_found_beside_images_and_in_folders_of_masks():
    assert pair_masks(["a/1.bmp", "a/1.png", "b/1.bmp", "b/1.png", "b/2.bmp"]) == {
        "a/1.bmp": "a/1.png",
        "b/1.bmp": "b/1.png",
    }
    lisc = [
        "Main/Baso/1.bmp",
        "Main/eosi/1.bmp",
        "Ground Truth/Baso/1_expert.bmp",
        "Ground Truth/eosi/1_expert.bmp",
    ]
    assert pair_masks(lisc) == {lisc[0]: lisc[2], lisc[1]: lisc[3]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Uninfected", "healthy_rbc"),
        ("Parasitized", "infected_rbc"),
        ("Platelets", "thrombocyte"),
        ("WBC", None),
    ],
)
def test_names_of_other_databases(name, expected):
    assert class_of(name) == expected


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("size", r"001.png: is 75x75 but its image is 150x150; replace"),
        ("empty", r"001.png: the mask is empty"),
        ("decode", r"001.bmp: cannot be decoded"),
        ("class", r"001.bmp: its class is unknown"),
        ("name", r"Dataset 1.csv: no white cell is called 'platypus'"),
        ("none", r"no image with a mask found"),
        ("path", r"no such folder or zip"),
    ],
)
def test_broken_masks(sources, tmp_path, damage, message):
    folder = tmp_path / "masks"
    shutil.copytree(sources / "masks", folder)
    image, mask = folder / "Dataset 1/001.bmp", folder / "Dataset 1/001.png"
    table = folder / "Class Labels of Dataset 1.csv"
    if damage == "size":
        Image.open(mask).resize((75, 75), 0).save(mask)
    elif damage == "empty":
        Image.new("L", (150, 150)).save(mask)
    elif damage == "decode":
        image.write_bytes(image.read_bytes()[:40])
    elif damage == "class":
        table.unlink()
    elif damage == "name":
        table.write_text("image ID,class\n1,platypus\n")
    elif damage == "none":
        for path in folder.glob("*/*.png"):
            path.unlink()
    else:
        shutil.rmtree(folder)
    with pytest.raises(CellsError, match=message) as caught:
        build_library(tmp_path / "out", masks=[folder])
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows[0]["objects"][0]["bbox"].update(x="900"),
            r"a box of infected_rbc .* outside the 320x240",
        ),
        (lambda rows: rows[0]["objects"][0].pop("bbox"), r"annotations.json: the annotations are broken"),
        (lambda rows: rows[0]["objects"][0].update(type="platypus"), r"unknown class 'platypus'"),
        (
            lambda rows: [thing["bbox"].update(w=-40) for row in rows for thing in row["objects"]],
            r"annotations.json: the box of 'ring' at x 20..-20, y 30..70 ends before it begins; mend",
        ),
        (lambda rows: rows[0].update(image_name="gone.png"), r"its image gone.png is missing"),
        (lambda rows: rows.clear(), r"no boxes found"),
    ],
)
def test_broken_boxes(sources, tmp_path, change, message):
    folder = tmp_path / "boxes"
    shutil.copytree(sources / "boxes", folder)
    place = folder / "annotations.json"
    rows = json.loads(place.read_text())
    change(rows)
    place.write_text(json.dumps(rows))
    with pytest.raises(CellsError, match=message) as caught:
        build_library(tmp_path / "out", boxes=[folder])
    assert "\n" not in str(caught.value)


def test_broken_json_and_broken_libraries(sources, library_folder, tmp_path):
    folder = tmp_path / "boxes"
    shutil.copytree(sources / "boxes", folder)
    (folder / "annotations.json").write_text('[{"image_name": ')
    with pytest.raises(CellsError, match=r"annotations.json: the annotations are broken"):
        build_library(tmp_path / "out", boxes=[folder])
    with pytest.raises(CellsError, match="no source images given"):
        build_library(tmp_path / "out")
    with pytest.raises(CellsError, match=r"no index.parquet there"):
        read_library(tmp_path)
    with pytest.raises(CellsError, match="is no sample library"):
        simulate_library(folder, per_class=3)
    damaged = tmp_path / "damaged"
    shutil.copytree(library_folder, damaged)
    png = next(damaged.glob("monocyte/*.png"))
    Image.open(png).resize((20, 20)).save(png)
    with pytest.raises(CellsError, match=r"monocyte-\d+.png: is 20x20 but"):
        read_library(damaged)
    (damaged / "index.parquet").write_bytes(b"PAR1")
    with pytest.raises(CellsError, match=r"index.parquet: cannot be read"):
        read_library(damaged)


def test_real_white_cells_have_their_masks_and_classes(real_data):
    files = SourceFiles(real_data("wbc_jtsc_cellavision.zip"))
    pairs, classes = pair_masks(files.names()), read_classes(files, files.names())
    assert len(pairs) == 300 and pairs.keys() <= classes.keys()
    counts = {name: sum(classes[image] == name for image in pairs) for name in ("eosinophil", "basophil")}
    assert counts == {"eosinophil": 24, "basophil": 3}
    image = next(name for name in pairs if "Dataset 2" in name)
    cell, red_cells = cut_white_cell(files, image, pairs[image], classes[image])
    assert cell is not None and 90 < cell.diameter < 230
    assert all(55 < diameter < 100 for diameter in red_cells)
    assert cell.density[cell.mask][:, 1].mean() > 0.5 > abs(float(np.median(cell.density[~cell.mask])))


def test_a_library_is_replaced_by_one_of_the_same_sources_only(sources, tmp_path):
    place = build_library(tmp_path / "library", boxes=[sources / "boxes"])
    build_library(place, boxes=[sources / "boxes"])
    shutil.copytree(sources / "boxes", tmp_path / "boxes")  # of the same name, but elsewhere
    with pytest.raises(
        CellsError, match=r"library: holds another library \(boxes \['boxes \(.*delete this one"
    ):
        build_library(place, boxes=[tmp_path / "boxes"])
    samples = read_library(place).samples
    bare = write_library(tmp_path / "bare", samples)  # as libraries were before they told their settings
    with pytest.raises(
        CellsError, match="bare: holds a library already, made with settings that are not known"
    ):
        build_library(bare, boxes=[sources / "boxes"])
    assert str(tmp_path).encode() not in (place / "index.parquet").read_bytes()
    (tmp_path / "file").write_text("")
    with pytest.raises(CellsError, match="file is a file; give a folder"):
        simulate_library(tmp_path / "file", per_class=3)


def test_a_box_that_ends_before_it_begins_names_its_xml(tmp_path):
    folder = write_boxes(tmp_path / "boxes", pack="voc")
    place = folder / "smear1.xml"
    text = place.read_text()
    place.write_text(text.replace("xmin", "-").replace("xmax", "xmin").replace("-", "xmax"))
    with pytest.raises(CellsError, match=r"smear1.xml: the box of 'ring' at x 60..20, y 30..70 ends before"):
        build_library(tmp_path / "out", boxes=[folder])
