"""The terms of the paper's loss that MONAI does not have."""

import torch
import torch.nn.functional as nnf
from torch.nn.modules.loss import _Loss

FORMS = ("paper", "components", "magnitude")
SOBEL_SUM = 8.0  # sum of the absolute Sobel weights; after division the map is a mean difference over two pixels
MAGNITUDE_EPSILON = 1e-12  # intensity scale squared; keeps the gradient of the root finite at 0


class GradientMappingLoss(_Loss):
    """The paper's gradient mapping loss, equation 1, on Sobel maps S_x and S_y of an image and its cycled image.

    With a the cycled image F(G(x)) and b the image x, both of shape (B, 1, H, W):

    - "paper": the equation to the letter, mean |S_x(a) - S_x(b) + S_y(a) - S_y(b)|. The two differences are summed
      inside the norm, so opposite errors along x and y cancel.
    - "components": mean |S_x(a) - S_x(b)| + mean |S_y(a) - S_y(b)|; nothing cancels.
    - "magnitude": mean | |S(a)| - |S(b)| | with |S| = sqrt(S_x^2 + S_y^2); edge strength whatever its direction.

    Args:
        form: one of the three.

    Raises:
        ValueError: for any other form, or images of different shapes.
    """

    def __init__(self, form: str):
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        self.form = form
        smooth, step = torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0])
        along_x = torch.outer(smooth, step)
        self.register_buffer("kernels", torch.stack([along_x, along_x.T])[:, None] / SOBEL_SUM)

    def gradients(self, image: torch.Tensor) -> torch.Tensor:
        """Sobel maps (B, 2, H, W) of an image (B, 1, H, W), borders replicated; intensity units a pixel."""
        return nnf.conv2d(nnf.pad(image, [1, 1, 1, 1], mode="replicate"), self.kernels.to(image))

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar on the intensity scale."""
        if input.shape != target.shape:
            raise ValueError(f"images must have one shape, got {tuple(input.shape)} and {tuple(target.shape)}")
        if self.form == "magnitude":
            return nnf.l1_loss(self._magnitude(input), self._magnitude(target))
        difference = self.gradients(input - target)
        if self.form == "paper":
            return difference.sum(dim=1).abs().mean()
        return difference.abs().mean(dim=(0, 2, 3)).sum()

    def _magnitude(self, image: torch.Tensor) -> torch.Tensor:
        return (self.gradients(image).square().sum(dim=1) + MAGNITUDE_EPSILON).sqrt()
