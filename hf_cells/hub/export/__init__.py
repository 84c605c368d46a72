"""Models in formats that need no code of ours.

Every format is a module with `write(source, folder)`, which returns what the format cannot hold, and
`reload(folder)`, which returns a function from pixel values to logits by the format's own library.
"""

from .exporting import FORMATS, Export, export_model

__all__ = ["FORMATS", "Export", "export_model"]
