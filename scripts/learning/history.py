"""Earlier generated images for the discriminators."""

import torch


class HistoryPool:
    """Pool of generated images from which a discriminator sees an earlier one half of the time.

    Discriminators trained on earlier images too oscillate less (Shrivastava et al. 2017, arXiv 1612.07828; CycleGAN).

    Args:
        size: number of images kept; 0 returns every image unchanged.
        seed: seed of the pool's own random state, which is saved with it.

    >>> pool = HistoryPool(size=2)
    >>> pool(torch.ones(2, 1, 4, 4)).shape, len(pool.images)
    (torch.Size([2, 1, 4, 4]), 2)
    """

    def __init__(self, size: int, seed: int = 0):
        self.size = size
        self.images: list[torch.Tensor] = []
        self.random = torch.Generator().manual_seed(seed)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return images of the same shape (B, C, H, W), some of them exchanged for earlier ones.

        Args:
            images: newly generated images; the ones returned carry no gradient.
        """
        shown = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image.clone())
                shown.append(image)
                continue
            if self.size and torch.rand((), generator=self.random) < 0.5:
                index = int(torch.randint(self.size, (), generator=self.random))
                shown.append(self.images[index].to(image))  # a resumed pool comes from the CPU
                self.images[index] = image.clone()
            else:
                shown.append(image)
        return torch.stack(shown)

    def state_dict(self) -> dict:
        """Return images and random state, for exact resume."""
        return {"images": self.images, "random": self.random.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state_dict`."""
        self.images, _ = list(state["images"]), self.random.set_state(state["random"].cpu())
