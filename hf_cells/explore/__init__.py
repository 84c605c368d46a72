"""Looking at a dataset before training on it: numbers, figures and one page."""

from .explore import explore_dataset

__all__ = ["explore_dataset"]
