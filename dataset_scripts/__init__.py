"""Dataset loading scripts, one `datasets` builder each."""
