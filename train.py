"""Train a model from a recipe.

    accelerate launch train.py                                                     # simulated nuclei, three minutes
    accelerate launch train.py --recipe dsb2018_instance --data_dir stage1_train.zip
    accelerate launch train.py --help

One process on a CPU or a GPU, several GPUs, several machines: see the README and `hf_cells/recipes/accelerate/`.
The loop itself is `hf_cells/training/loop.py`.
"""

from hf_cells.training import main

if __name__ == "__main__":
    main()
