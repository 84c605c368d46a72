"""The composer: same bytes always, exact labels, no sample in two splits, never two compositions in one."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from hf_cells.compose import CLASS_COLORS, CLASS_NAMES, Library, compose_dataset, read_library
from hf_cells.compose.classes import PASTED, WHITE_CELLS
from hf_cells.compose.dataset import background_shares
from hf_cells.compose.library import write_library
from hf_cells.compose.plan import KINDS, LAYOUTS, make_cycle
from hf_cells.data.simulated import is_simulated
from hf_cells.errors import CellsError

SIZES = {"train": 24, "validation": 4, "test": 4, "backgrounds": 9, "seed": 3}


@pytest.fixture(scope="module")
def composed(library_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compose_dataset(library_folder, tmp_path_factory.mktemp("composed") / "smears", **SIZES)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def labels(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/labels/*.json"))]


def test_same_bytes_for_any_number_of_workers_and_after_an_interruption(composed, library_folder, tmp_path):
    expected = contents(composed)
    assert not [name for name in expected if Path(name).name.startswith(".")]
    assert contents(compose_dataset(library_folder, tmp_path / "two", **SIZES, workers=2)) == expected

    broken = tmp_path / "broken"
    shutil.copytree(composed, broken)
    (broken / "manifest.json").unlink()
    (broken / "train/labels/000003.json").unlink()
    (broken / "train/images/000003.png").write_bytes(b"half an ima")
    shutil.rmtree(broken / "test")
    for path in broken.glob("backgrounds/test-*.json"):
        path.unlink()
    (broken / "train/labels/.000003.json.4711").write_text('{"half')
    kept = broken / "train/images/000004.png"
    before = kept.stat().st_mtime_ns
    assert contents(compose_dataset(library_folder, broken, **SIZES)) == expected
    assert kept.stat().st_mtime_ns == before, "a finished sample was composed again"


def test_segments_instances_and_labels_say_the_same(composed):
    ids = {name: number for number, name in enumerate(CLASS_NAMES)}
    for path in sorted(composed.glob("*/labels/*.json")):
        label = json.loads(path.read_text())
        here = {
            kind: path.parents[1] / kind / f"{path.stem}.png" for kind in ("images", "segments", "instances")
        }
        image, segments = (Image.open(here[kind]) for kind in ("images", "segments"))
        instances = np.asarray(Image.open(here["instances"])).astype(int)
        assert image.size == segments.size == (224, 224) and image.mode == "RGB"
        assert [cell["id"] for cell in label["objects"]] == list(range(1, instances.max() + 1))
        expected = np.array([0, *(ids[cell["class"]] for cell in label["objects"])])[instances]
        assert (np.asarray(segments) == expected).all()
        colours = np.array(list(CLASS_COLORS.values()), np.uint8)
        assert (np.asarray(segments.convert("RGB")) == colours[expected]).all()
        for cell, (rows, columns) in zip(label["objects"], ndimage.find_objects(instances), strict=True):
            assert cell["box"] == [columns.start, rows.start, columns.stop, rows.stop]
            assert cell["pixels"] == (instances == cell["id"]).sum()


def test_the_manifest_counts_objects_and_their_source_samples(composed):
    manifest = json.loads((composed / "manifest.json").read_text())
    counted = {split: Counter() for split in ("train", "validation", "test")}
    for label in labels(composed):
        counted[label["split"]].update(cell["class"] for cell in label["objects"])
    for split, counts in counted.items():
        assert manifest["objects"][split] == {name: counts[name] for name in CLASS_NAMES[1:]}
        assert manifest["source_samples"][split]["neutrophil"] == 1
        assert manifest["source_samples"][split]["platelet_clump"] == 4


def test_only_what_was_drawn_throughout_is_marked_as_simulated(composed, library_folder, tmp_path):
    rows = (composed / "simulated.csv").read_text().splitlines()
    assert is_simulated(composed) and rows[0] == "sample_id,class,split"
    assert len(rows) - 1 == len(read_library(library_folder).samples)
    # A real database may be called so, and its cells go by its name.
    write_library(tmp_path / "real", read_library(library_folder).samples, {"simulated": False})
    folder = compose_dataset(
        tmp_path / "real", tmp_path / "smears", train=1, validation=0, test=0, backgrounds=3
    )
    assert not is_simulated(folder)


def test_every_cell_comes_from_its_split(composed, cells: Library):
    split_of = {sample.sample_id: sample.split for sample in cells.samples}
    class_of = {sample.sample_id: sample.class_name for sample in cells.samples}
    sources = {s.sample_id: s.source_image.split(";") for s in cells.samples}
    seen: dict[str, set[str]] = {}
    for label in labels(composed):
        assert label["background"]["name"].startswith(label["split"])
        for cell in label["objects"]:
            assert split_of[cell["sample"]] == label["split"]
            assert class_of[cell["sample"]] == cell["class"]
            for image in sources[cell["sample"]]:
                seen.setdefault(image, set()).add(label["split"])
    assert seen and all(len(splits) == 1 for splits in seen.values())


def test_backgrounds_hold_the_red_cells_of_their_kind_at_the_recorded_places(composed):
    for path in sorted(composed.glob("backgrounds/*.json")):
        record = json.loads(path.read_text())
        classes = Counter(cell["class"] for cell in record["cells"])
        kinds = {"infected": {"infected_rbc"}, "healthy": {"healthy_rbc"}}
        assert set(classes) == kinds.get(record["kind"], {"infected_rbc", "healthy_rbc"})
        light = np.asarray(Image.open(path.with_suffix(".png"))).astype(int)
        assert light.shape == (1000, 1000, 3)
        inside = [c for c in record["cells"] if 20 < c["x"] < 980 and 20 < c["y"] < 980]
        around = [
            light[round(c["y"]) - 12 : round(c["y"]) + 13, round(c["x"]) - 12 : round(c["x"]) + 13]
            for c in inside
        ]
        assert np.mean([patch[..., 1].mean() for patch in around]) < 200  # haemoglobin; glass has 240


def test_layouts_paste_as_many_cells_as_they_say(composed, cells: Library):
    pasted = {"blank": 0, "single": 1, "double": 2, "triple": 3}
    seen = Counter()
    for label in labels(composed):
        count = sum(cell["pasted"] for cell in label["objects"])
        seen[label["layout"]] += 1
        # A platelet may vanish under a later one.
        most = pasted.get(label["layout"], 9)
        assert count <= most and (count >= max(0, most - 1) or label["layout"] == "multi")
    assert len(seen) >= 4


def test_white_cells_are_cut_by_the_border_now_and_then(library_folder, tmp_path):
    folder = compose_dataset(library_folder, tmp_path / "d", train=60, validation=0, test=0, backgrounds=3)
    white = [c for label in labels(folder) for c in label["objects"] if c["class"] in WHITE_CELLS]
    partial = [cell for cell in white if cell["partial"]]
    assert 0.1 < len(partial) / len(white) < 0.7
    for cell in partial:
        assert {0, 224} & set(cell["box"])


def test_the_cycle_has_every_combination():
    cycle = make_cycle(0, "train")
    assert {plan.layout for plan in cycle} == set(LAYOUTS)
    for kind in KINDS:
        own = [plan for plan in cycle if plan.kind == kind]
        assert {plan.classes for plan in own if plan.layout == "single"} == {(name,) for name in PASTED}
        pairs = {plan.classes for plan in own if plan.layout == "double"}
        assert len(pairs) == 7 * 8 / 2
        assert len({plan.classes for plan in own if plan.layout == "triple"}) == 84
        assert len({frozenset(plan.classes) for plan in own if plan.layout == "multi"}) == 35 + 21 + 7 + 1
    assert make_cycle(0, "test") != cycle and make_cycle(0, "train") == cycle
    without = make_cycle(0, "train", ["basophil", "infected_rbc"])
    assert all("basophil" not in plan.classes and plan.kind == "healthy" for plan in without)


def test_the_default_is_that_of_the_source():
    sizes = {"train": 65_350, "validation": 6_560, "test": 6_560}
    shares = background_shares(sizes, None)
    assert all(share % 3 == 0 for share in shares.values()) and abs(sum(shares.values()) - 1500) <= 3
    assert background_shares({"train": 10, "validation": 0, "test": 0}, None) == {
        "train": 3,
        "validation": 0,
        "test": 0,
    }


def test_another_composition_is_refused(composed, library_folder, tmp_path):
    before = contents(composed)
    for change in ({"seed": 4}, {"train": 25}, {"backgrounds": 12}, {"leave_out": ["basophil"]}):
        with pytest.raises(CellsError, match="holds another composition") as caught:
            compose_dataset(library_folder, composed, **{**SIZES, **change})
        assert "\n" not in str(caught.value) and str(composed) in str(caught.value)
    assert contents(composed) == before

    other = tmp_path / "cells"
    shutil.copytree(library_folder, other)
    png = next(other.glob("neutrophil/*.png"))
    pixels = np.asarray(Image.open(png)).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(png)
    with pytest.raises(CellsError, match=r"another composition \(library"):
        compose_dataset(other, composed, **SIZES)

    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(CellsError, match="holds other files"):
        compose_dataset(library_folder, tmp_path / "full", **SIZES)


def test_a_class_without_samples_can_be_left_out(library_folder, tmp_path):
    import pyarrow.parquet as pq

    fewer = tmp_path / "cells"
    shutil.copytree(library_folder, fewer)
    table = pq.read_table(fewer / "index.parquet")
    pq.write_table(
        table.filter([name != "basophil" for name in table["class"].to_pylist()]), fewer / "index.parquet"
    )
    with pytest.raises(CellsError, match="no sample of basophil in train.*--leave_out basophil"):
        compose_dataset(fewer, tmp_path / "out", **SIZES)
    assert not (tmp_path / "out").exists()
    sizes = {**SIZES, "train": 3, "validation": 0, "test": 0, "backgrounds": 3}
    folder = compose_dataset(fewer, tmp_path / "out", **sizes, leave_out=["basophil"])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["objects"]["train"]["basophil"] == 0 < sum(manifest["objects"]["train"].values())


def test_a_sample_larger_than_the_image_is_refused(library_folder, tmp_path, cells):

    from hf_cells.compose.library import write_library

    first, *rest = cells.samples
    large = replace(first, height=230, width=40, rgba=np.full((230, 40, 4), 255, np.uint8))
    folder = write_library(tmp_path / "cells", [large, *rest])
    with pytest.raises(CellsError, match="is 230x40, larger than the 224x224 image"):
        compose_dataset(folder, tmp_path / "out", **SIZES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": -1}, "none below 0"),
        ({"train": 0, "validation": 0, "test": 0}, "ask for one"),
        ({"workers": 0}, "workers 0"),
        ({"leave_out": ["platypus"]}, "no class is called 'platypus'"),
        ({"leave_out": ["healthy_rbc", "infected_rbc"]}, "both kinds of red cells"),
    ],
)
def test_settings_out_of_range(library_folder, tmp_path, change, message):
    with pytest.raises(CellsError, match=message):
        compose_dataset(library_folder, tmp_path / "out", **{**SIZES, **change})


def test_a_broken_record_is_named(composed, library_folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "composition.json").write_text("{")
    with pytest.raises(CellsError, match=r"composition.json: is broken"):
        compose_dataset(library_folder, broken, **SIZES)


def test_reading_a_library_twice_gives_one_fingerprint(library_folder, cells):
    assert read_library(library_folder).fingerprint == cells.fingerprint
