"""From light to file: point spread, uneven lamp, shot and read noise, JPEG blocks, bit depth."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from .fields import FloatImage, smooth_field, wide_blur

Range = tuple[float, float]

# Luminance quantisation table of the JPEG standard (ITU-T T.81, table K.1).
_JPEG_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=np.float32,
)


def draw(rng: np.random.Generator, low_high: Range) -> float:
    """Uniform draw from a range."""
    return float(rng.uniform(*low_high))


def draw_log(rng: np.random.Generator, low_high: Range) -> float:
    """Log-uniform draw from a positive range: as many images below the geometric middle as above."""
    return float(np.exp(rng.uniform(np.log(low_high[0]), np.log(low_high[1]))))


def point_spread(image: FloatImage, sigma: float, halo: float, halo_sigma: float) -> FloatImage:
    """Sharp Gaussian core plus the wide skirt of out-of-focus light that a widefield microscope adds."""
    core = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3.0) if sigma > 0.2 else image
    return core if halo <= 0 else (1 - halo) * core + halo * wide_blur(image, halo_sigma)


def illumination(rng: np.random.Generator, shape: tuple[int, int], strength: float) -> FloatImage:
    """Slowly varying lamp intensity around 1: a smooth surface plus a vignette; float32 (H, W)."""
    surface = smooth_field(rng, shape, max(shape) / 1.5)
    rows = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None] - np.float32(rng.normal(0, 0.3))
    columns = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :] - np.float32(rng.normal(0, 0.3))
    vignette = 0.5 - (rows**2 + columns**2)
    lamp = 1 + strength * (0.6 * surface + draw(rng, (0, 1)) * vignette)
    return np.clip(lamp, 0.15, 2.5).astype(np.float32)


def add_noise(
    rng: np.random.Generator, image: FloatImage, read: float, shot: float, grain: float
) -> FloatImage:
    """Sensor noise in grey values.

    Args:
        rng: Source of randomness.
        image: (H, W) or (H, W, C), grey values.
        read: Standard deviation in the dark.
        shot: Variance per grey value of signal (Gaussian approximation of photon noise).
        grain: Width in pixels over which noise is correlated, as after resampling; 0 for none.
    """
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    if grain > 0.2:
        sigma = (grain, grain, 0)[: image.ndim]
        noise = ndimage.gaussian_filter(noise, sigma, mode="nearest", truncate=3.0)
        noise /= noise.std() + 1e-6
    return image + noise * np.sqrt(read**2 + shot * np.maximum(image, 0))


def add_photon_noise(rng: np.random.Generator, image: FloatImage, photons: float) -> FloatImage:
    """True Poisson counts for light so weak that single photons show: `photons` per grey value."""
    return (rng.poisson(np.maximum(image, 0) * photons) / photons).astype(np.float32)


def jpeg_blocks(image: FloatImage, quality: int) -> FloatImage:
    """What JPEG leaves of an image: 8x8 cosine blocks rounded to the standard table at `quality` (1..100)."""
    factor = 50 / quality if quality < 50 else 2 - quality / 50
    table = np.maximum(np.round(_JPEG_TABLE * factor), 1)
    height, width = image.shape[:2]
    planes = image[..., None] if image.ndim == 2 else image
    padded = np.pad(planes, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge") - 128
    rows, columns, channels = padded.shape
    blocks = padded.reshape(rows // 8, 8, columns // 8, 8, channels).transpose(4, 0, 2, 1, 3)
    spectrum = np.round(fft.dctn(blocks, axes=(3, 4), norm="ortho") / table) * table
    decoded = fft.idctn(spectrum, axes=(3, 4), norm="ortho").transpose(1, 3, 2, 4, 0)
    decoded = decoded.reshape(rows, columns, channels)[:height, :width] + 128
    return decoded.reshape(image.shape).astype(np.float32)


def digitise(
    rng: np.random.Generator, image: FloatImage, bit_depth: int
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Grey values 0..255 (float) to uint8, or to uint16 as a 12-, 14- or 16-bit camera fills it."""
    if bit_depth == 8:
        return np.clip(np.round(image), 0, 255).astype(np.uint8)
    camera = 2 ** int(rng.choice([12, 14, 16], p=[0.4, 0.2, 0.4])) - 1
    return np.clip(np.round(image * np.float32(camera / 255)), 0, camera).astype(np.uint16)
