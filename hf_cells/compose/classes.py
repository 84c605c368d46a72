"""Classes of a blood smear, their ids and colours, and how other databases call them."""

# The order is the class id: background 0, then the nine kinds of cell in the order of the legend.
CLASS_COLORS: dict[str, tuple[int, int, int]] = {
    "background": (0x00, 0x00, 0x00),
    "eosinophil": (0x00, 0xFF, 0xFF),
    "basophil": (0x00, 0x80, 0x80),
    "neutrophil": (0xFB, 0xBE, 0xBE),
    "lymphocyte": (0x80, 0x80, 0x00),
    "monocyte": (0x00, 0x00, 0x80),
    "thrombocyte": (0xFF, 0xFF, 0x00),
    "platelet_clump": (0xFF, 0x00, 0xFF),
    "infected_rbc": (0xFF, 0x00, 0x00),
    "healthy_rbc": (0x00, 0xFF, 0x00),
}
CLASS_NAMES = tuple(CLASS_COLORS)
CLASS_IDS = {name: index for index, name in enumerate(CLASS_NAMES)}

WHITE_CELLS = CLASS_NAMES[1:6]
PLATELETS = CLASS_NAMES[6:8]
RED_CELLS = CLASS_NAMES[8:10]
PASTED = WHITE_CELLS + PLATELETS  # red cells make the background

SPLITS = ("train", "validation", "test")

# The one magnification of a library: a healthy red cell, 7.5 micrometres wide, spans so many pixels,
# which is what a 40x objective shows on a common camera (0.21 micrometres a pixel).
RED_CELL_DIAMETER = 36.0

# Beginnings of names in other databases; the first that fits counts. None: a thing that is left out.
_ALIASES: tuple[tuple[str, str | None], ...] = (
    ("eosi", "eosinophil"),
    ("baso", "basophil"),
    ("neut", "neutrophil"),
    ("lymp", "lymphocyte"),
    ("mono", "monocyte"),
    ("thromb", "thrombocyte"),
    ("clump", "platelet_clump"),
    ("platelet_clump", "platelet_clump"),
    ("platelet clump", "platelet_clump"),
    ("platelet", "thrombocyte"),
    ("uninfected", "healthy_rbc"),
    ("healthy", "healthy_rbc"),
    ("red blood cell", "healthy_rbc"),
    ("rbc", "healthy_rbc"),
    ("infected", "infected_rbc"),
    ("parasit", "infected_rbc"),
    ("ring", "infected_rbc"),
    ("troph", "infected_rbc"),
    ("schizont", "infected_rbc"),
    ("gametocyte", "infected_rbc"),
    ("wbc", None),
    ("white", None),
    ("leuko", None),
    ("difficult", None),
)
# Zheng 2018 numbers its white cells so.
NUMBERED = {"1": "neutrophil", "2": "lymphocyte", "3": "monocyte", "4": "eosinophil", "5": "basophil"}


def class_of(name: str) -> str | None:
    """Return the class that a database means by `name`; None for a thing that is no sample.

    Raises:
        KeyError: The name is unknown.
    """
    name = name.strip().lower()
    for beginning, class_name in _ALIASES:
        if name.startswith(beginning):
            return class_name
    raise KeyError(name)
