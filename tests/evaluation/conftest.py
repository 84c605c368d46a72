"""What tests of figures share."""

import pytest

from hf_cells.evaluation import classification_figures, error_gallery, figures, threshold_figures


@pytest.fixture
def drawn_figures(monkeypatch):
    """The figures as they are saved, to read what is in them."""
    kept = []

    def save(figure, path):
        kept.append(figure)
        figures.save_figure(figure, path)

    for module in (classification_figures, error_gallery, threshold_figures):
        monkeypatch.setattr(module, "save_figure", save)
    return kept


@pytest.fixture
def coarse(monkeypatch):
    """Which figures there are can be seen with few pixels."""
    monkeypatch.setattr(figures, "_DPI", 40)
