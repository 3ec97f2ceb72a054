"""The pool of past fakes that discriminators are shown."""

import torch


class HistoryPool:
    """The last generated images; half of the time a discriminator sees a past one (Shrivastava et al. 2017).

    Args:
        size: images kept; 0 hands every image straight through.
        seed: of the pool's own random state, saved with it.
    """

    def __init__(self, size: int, seed: int = 0):
        self.size = size
        self.images: list[torch.Tensor] = []
        self.random = torch.Generator().manual_seed(seed)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W), detached -> the same shape, some images swapped for earlier ones."""
        shown = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image.clone())
                shown.append(image)
                continue
            if self.size and torch.rand((), generator=self.random) < 0.5:
                place = int(torch.randint(self.size, (), generator=self.random))
                shown.append(self.images[place].to(image))  # a resumed pool comes from the CPU
                self.images[place] = image.clone()
            else:
                shown.append(image)
        return torch.stack(shown)

    def state_dict(self) -> dict:
        """Images and random state, for exact resume."""
        return {"images": self.images, "random": self.random.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Continue where `state_dict` was taken."""
        self.images, _ = list(state["images"]), self.random.set_state(state["random"].cpu())
