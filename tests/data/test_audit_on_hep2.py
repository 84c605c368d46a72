"""The audit on the real HEp-2 cells: what is known of them, found without being told."""

import time
from pathlib import Path

import numpy as np

from hf_cells.data.audit import refuse_leaks
from hf_cells.data.audit_report import audit_dataset
from hf_cells.data.loading import load_dataset


def test_the_known_leaks_of_hep2_are_found(real_data, tmp_path: Path) -> None:
    splits = load_dataset("hep2", data_dir=real_data("hep2_icpr2014_train_val.zip"), cache_dir=tmp_path)
    told_nothing = {side: split.remove_columns("group") for side, split in splits.items()}

    busy = time.process_time()
    audit = audit_dataset(told_nothing)
    report = audit.report
    assert time.process_time() - busy < 60

    copies = report["exact_duplicates"]
    assert (copies["sets"], copies["images"], copies["across_splits"]) == (118, 236, 35)
    for pair in copies["members"]:
        first, second = sorted(int(image_id) for _, image_id in pair)
        assert 11005 <= first <= 11198 and second == first + 194
    assert report["groups"]["count"] == 0 and report["label_conflicts"] == {"exact": [], "near": []}
    assert report["leak_texts"] == ["35 of 118 pixel-identical pictures are in more than one split"]

    numbers = report["running_numbers"]
    assert numbers["like_specimens"] and not numbers["kept_together"]
    assert numbers["window"] == 100 and numbers["observed"] > 0.5 and numbers["chance"] < 0.1
    assert any(text.startswith("contiguous image ids behave like specimens") for text in report["warnings"])

    # One cell twice, from overlapping fields of view: of one class, and never from distant parts of it.
    near = report["near_duplicates"]["members"]
    apart = np.array([abs(int(first) - int(second)) for (_, first), (_, second), _ in near])
    assert 150 < len(near) < 250 and apart.max() < 400
    assert ["07653", "07655"] in [sorted([first, second]) for (_, first), (_, second), _ in near]

    cheap = refuse_leaks(splits, published="random by cell")
    assert len(cheap["duplicate_images"]) == 35 and cheap["leaks"] == 35 + 120
