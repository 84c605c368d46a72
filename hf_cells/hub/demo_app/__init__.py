"""The page on which people try a model: the same code runs in a Space and behind `hf-cells demo`."""
