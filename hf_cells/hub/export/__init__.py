"""Models in formats that need no code of ours."""
