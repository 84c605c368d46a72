"""Looking at a dataset before training on it: numbers, figures and one page."""
