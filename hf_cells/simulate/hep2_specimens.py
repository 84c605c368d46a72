"""HEp-2 specimens in indirect immunofluorescence: what the cells of one serum on one slide have in common.

Every staining pattern is a mixture of the same ingredients (glow, grain, holes, dots, blobs, rim, clump) in
other proportions, and the proportions of neighbouring patterns overlap, as those of real sera do.
"""

from dataclasses import dataclass, fields

import numpy as np

from .optics import Range, draw, draw_log


@dataclass(frozen=True)
class Pattern:
    """Ranges from which a specimen draws its look; amounts of light are in units of the pattern's signal.

    Ranges above zero are drawn log-uniformly.

    Attributes:
        glow: Light of the nucleus as a whole.
        dome: 0 a flat nucleus, .5 a sphere.
        contrast: Standard deviation of log light in the grain of the nucleus.
        grain: Size of that grain, pixels.
        holes: Mean number of dark nucleoli.
        hole_depth: Share of the glow that they lack.
        dots: Mean number of points in a nucleus.
        dot_light: Their light.
        blobs: Mean number of stained nucleoli; where there are any, every nucleus has one.
        blob_radius: Their radius, pixels.
        rim: Light of the nuclear envelope.
        rim_width: Its standard deviation, pixels.
        beads: How unevenly the envelope is stained (log light).
        clump: Mean number of pieces of the Golgi apparatus.
        clump_spread: Angle along the nucleus over which they spread, radians.
        haze: Light of the cytoplasm.
    """

    glow: Range = (1.0, 1.0)
    dome: Range = (0.1, 0.45)
    contrast: Range = (0.05, 0.2)
    grain: Range = (1.8, 4.5)
    holes: Range = (0.0, 1.0)
    hole_depth: Range = (0.1, 0.4)
    dots: Range = (0.0, 0.0)
    dot_light: Range = (0.0, 0.0)
    blobs: Range = (0.0, 0.0)
    blob_radius: Range = (1.5, 3.0)
    rim: Range = (0.0, 0.0)
    rim_width: Range = (1.0, 1.0)
    beads: Range = (0.0, 0.0)
    clump: Range = (0.0, 0.0)
    clump_spread: Range = (0.2, 1.5)
    haze: Range = (0.03, 0.3)


PATTERNS = {
    "Homogeneous": Pattern(contrast=(0.04, 0.32), holes=(0.0, 2.0), haze=(0.05, 0.6)),
    "Speckled": Pattern(
        contrast=(0.17, 0.6),
        grain=(1.5, 3.5),
        holes=(0.0, 5.0),
        hole_depth=(0.3, 0.8),
        dots=(0.0, 80.0),
        dot_light=(0.3, 2.0),
        haze=(0.04, 0.45),
    ),
    "Nucleolar": Pattern(
        glow=(0.04, 0.8),
        contrast=(0.08, 0.3),
        dots=(0.0, 6.0),
        dot_light=(0.2, 0.8),
        blobs=(1.5, 6.0),
        blob_radius=(1.5, 4.5),
        haze=(0.02, 0.4),
    ),
    "Centromere": Pattern(
        glow=(0.08, 0.8), contrast=(0.08, 0.3), dots=(40.0, 60.0), dot_light=(1.5, 4.0), haze=(0.01, 0.2)
    ),
    "NuMem": Pattern(
        glow=(0.35, 1.0),
        dome=(0.0, 0.2),
        contrast=(0.03, 0.18),
        grain=(1.5, 3.5),
        dots=(0.0, 5.0),
        dot_light=(0.2, 1.2),
        rim=(0.32, 1.0),
        rim_width=(1.0, 2.5),
        beads=(0.0, 0.4),
        haze=(0.2, 0.9),
    ),
    "Golgi": Pattern(
        glow=(0.06, 1.2),
        contrast=(0.08, 0.3),
        dots=(0.0, 8.0),
        dot_light=(0.05, 0.5),
        clump=(4.0, 14.0),
        haze=(0.04, 0.6),
    ),
}


@dataclass(frozen=True)
class Specimen:
    """What all cells of one specimen share: the serum's pattern and the photograph it was taken from.

    Attributes:
        pattern: Mean amounts of the ingredients, one value for each range of `Pattern`.
        diameter: Mean nuclear diameter, pixels.
        photons: Photons per unit of signal: thousands for a positive serum, hundreds for an intermediate one.
        read: Camera noise, in units of the signal.
        blur: Standard deviation of the point spread core, pixels.
        halo: Share of light in its wide skirt.
        out_of_focus: Share of cells far from the focal plane.
        background: Light of the empty slide.
        crowding: Mean number of neighbours that reach into a picture.
        debris: Mean number of bright specks in a picture.
    """

    pattern: dict[str, float]
    diameter: float
    photons: float
    read: float
    blur: float
    halo: float
    out_of_focus: float
    background: float
    crowding: float
    debris: float


def draw_specimen(rng: np.random.Generator, label: str) -> Specimen:
    """Draw the look of a specimen whose cells carry the class `label`, one of PATTERNS."""
    ranges = (getattr(PATTERNS[label], field.name) for field in fields(Pattern))
    amounts = (draw_log(rng, low_high) if low_high[0] > 0 else draw(rng, low_high) for low_high in ranges)
    intermediate = rng.random() < 0.5
    return Specimen(
        pattern={field.name: amount for field, amount in zip(fields(Pattern), amounts, strict=True)},
        diameter=draw(rng, (50, 62)),
        photons=draw_log(rng, (80, 600) if intermediate else (600, 8000)),
        read=draw_log(rng, (0.001, 0.008)),
        blur=draw_log(rng, (0.6, 1.3)),
        halo=draw(rng, (0.1, 0.5)),
        out_of_focus=draw(rng, (0.0, 0.08)),
        background=draw_log(rng, (0.03, 0.3) if intermediate else (0.01, 0.08)),
        crowding=draw(rng, (0.2, 1.4)),
        debris=draw_log(rng, (0.02, 0.5)),
    )
