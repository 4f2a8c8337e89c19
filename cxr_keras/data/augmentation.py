"""Augmentation: training images moved, turned and relit, anew in every epoch.

Every number is drawn from (seed, epoch, image), so that an epoch that is run again sees the same
images, in whatever batches and on every backend. One bilinear resampling does rotation, scale,
shift and flip at once. It runs on torch's CPU kernels whatever Keras's backend is: Keras's own
layers draw from one generator per layer, which no interrupted run could take up again, and its
affine transform takes longer than the training step of a small network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxr_keras.data.options import NO_AUGMENTATION


@dataclass(frozen=True)
class Strength:
    """How far an image may be changed; each number is drawn evenly between plus and minus it.

    Attributes:
        rotation: degrees.
        scale: share of the size.
        shift: share of the side.
        brightness: share of the range from black to white.
        contrast: share, around the image's mean.
        gamma: of exp(…), the exponent of the grey values in 0…1.
        erase: probability that a rectangle of one grey value covers a part of the image.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    erase: float = 0.0


STRENGTHS = {
    NO_AUGMENTATION: Strength(),
    "light": Strength(7.0, 0.12, 0.08, brightness=0.10, contrast=0.10),
    "strong": Strength(12.0, 0.20, 0.10, brightness=0.15, contrast=0.20, gamma=0.25, erase=0.25),
}
_ERASED = (0.1, 0.35)  # sides of an erased rectangle, as shares of the image's
_DRAWS = 14  # numbers drawn for one image; adding one at the end changes none before it


class Augmenter:
    """Changes batches of images, each by its own numbers.

    Args:
        strength: one of `STRENGTHS`.
        flip: mirror every other image, left to right.
        mixup: α of mixup, 0 for none: each image is laid over another of its batch with a share
            drawn from Beta(α, α), and so are their labels. Zhang et al., "mixup: Beyond Empirical
            Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412.
        seed: of all that is drawn.
    """

    def __init__(self, strength: str, *, flip: bool, mixup: float, seed: int):
        self.strength, self.flip, self.mixup, self.seed = STRENGTHS[strength], flip, mixup, seed
        moves = (self.strength.rotation, self.strength.scale, self.strength.shift)
        self._moves = flip or any(moves)

    @property
    def changes(self) -> bool:
        """Whether any image comes out otherwise than it went in."""
        return self.flip or bool(self.mixup) or self.strength != Strength()

    def __call__(
        self, pixels: np.ndarray, truth: np.ndarray, images: np.ndarray, epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """A batch, changed.

        Args:
            pixels: uint8 (B, side, side, 1).
            truth: float32 (B, labels).
            images: (B,) the number of each image in its split.
            epoch: from 0.

        Returns:
            float32 (B, side, side, 1) in 0…255, and float32 (B, labels).
        """
        draws = np.stack([self._draw(int(image), epoch) for image in images])
        changed = self._relit(self._moved(pixels.astype("float32"), draws), draws)
        if self.strength.erase:
            self._erase(changed, draws)
        if self.mixup:
            return self._mixed(changed, truth, images, epoch)
        return changed, truth

    def moved(self, masks: np.ndarray, images: np.ndarray, epoch: int) -> np.ndarray:
        """Masks of images, moved as the images are.

        Args:
            masks: float32 (n, side, side, 1), 0 outside.
            images: (n,) the number of the image of each in its split.
            epoch: from 0.
        """
        return self._moved(masks, np.stack([self._draw(int(image), epoch) for image in images]))

    def _draw(self, image: int, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch, image]).random(_DRAWS, dtype="float32")

    def _moved(self, pixels: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Rotation, scale, shift and flip; what comes from outside the image is black."""
        import torch

        if not self._moves:
            return pixels
        angle, scale, across, down = (2 * draws[:, :4] - 1).T
        angle = np.radians(self.strength.rotation) * angle
        zoom = 1 / (1 + self.strength.scale * scale)
        side = np.where(self.flip & (draws[:, 4] < 0.5), -1.0, 1.0)
        cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
        shift = 2 * self.strength.shift  # the sampling grid runs from -1 to 1
        matrix = np.stack([[cos * side, -sin, shift * across], [sin * side, cos, shift * down]])
        theta = torch.from_numpy(np.ascontiguousarray(matrix.transpose(2, 0, 1), dtype="float32"))
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
        moved = torch.nn.functional.grid_sample(images, grid, align_corners=False)
        return np.ascontiguousarray(moved.permute(0, 2, 3, 1).numpy())

    def _relit(self, pixels: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Gamma, contrast and brightness, kept within 0…255."""
        gamma, contrast, brightness = (2 * draws[:, 5:8] - 1).T[..., None, None, None]
        if self.strength.gamma:
            exponent = np.exp(self.strength.gamma * gamma).astype("float32")
            pixels = 255 * np.power(pixels / 255, exponent)
        if self.strength.contrast or self.strength.brightness:
            mean = pixels.mean(axis=(1, 2, 3), keepdims=True)
            lift = mean + 255 * self.strength.brightness * brightness
            pixels = (pixels - mean) * (1 + self.strength.contrast * contrast) + lift
            pixels = np.clip(pixels, 0, 255)
        return pixels

    def _erase(self, pixels: np.ndarray, draws: np.ndarray) -> None:
        """Cover a rectangle of some images, in place."""
        side, (least, most) = pixels.shape[1], _ERASED
        for image, draw in zip(pixels, draws, strict=True):
            if draw[8] < self.strength.erase:
                height, width = (side * (least + (most - least) * draw[9:11])).astype(int)
                top, left = int((side - height) * draw[11]), int((side - width) * draw[12])
                image[top : top + height, left : left + width] = 255 * draw[13]

    def _mixed(
        self, pixels: np.ndarray, truth: np.ndarray, images: np.ndarray, epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each image laid over the next of its batch; the larger share is its own."""
        rng = np.random.default_rng([self.seed, epoch, int(images[0]), len(images)])
        share = rng.beta(self.mixup, self.mixup, len(images)).astype("float32")
        share = np.maximum(share, 1 - share)[:, None]
        mixed = share * truth + (1 - share) * np.roll(truth, 1, axis=0)
        share = share[..., None, None]
        return share * pixels + (1 - share) * np.roll(pixels, 1, axis=0), mixed
