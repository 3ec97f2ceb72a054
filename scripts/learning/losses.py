"""The terms of the loss that MONAI does not have: the paper's, and the strength of what the slices leave open."""

import torch
import torch.nn.functional as nnf
from monai.networks.layers import GaussianFilter
from torch.nn.modules.loss import _Loss

FORMS = ("paper", "components", "magnitude")
SOBEL_SUM = 8.0  # sum of the absolute Sobel weights; after division the map is a mean difference over two pixels
MAGNITUDE_EPSILON = 1e-12  # intensity scale squared; keeps the gradient of the root finite at 0
RMS_EPSILON = 1e-6  # the same, for a root mean square; 0.001 of the intensity scale lies under the noise of any scan


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


class LocalRmsLoss(_Loss):
    """Mean difference between the local strengths of two details, band by band: | rms(a) - rms(b) |.

    rms is the root mean square under a Gaussian window. The most faithful answer is a mean over all that may be true,
    hence weaker than the truth where much is open; of the answers as strong as the truth, the faithful one made
    stronger is the truest (for Gaussian signals: Freirich, Michaeli and Meir 2021, arXiv 2107.02555). This term asks
    for that strength, place by place, and leaves the pattern to the other terms. Bands of an undecimated Haar
    transform, two levels of three directions, keep it from being met by one fine pattern laid over everything. What all
    lines across the slices of a patch have in common does not count: the cheapest strength of all is a stripe a plane,
    and anatomy has little of it.

    Args:
        sigma_pixels: of the window, along both axes of the plane.
    """

    def __init__(self, sigma_pixels: float):
        super().__init__()
        self.window = GaussianFilter(spatial_dims=2, sigma=sigma_pixels)
        mean, step = torch.tensor([0.5, 0.5]), torch.tensor([0.5, -0.5])
        self.register_buffer("low", torch.outer(mean, mean)[None, None])
        self.register_buffer(
            "bands", torch.stack([torch.outer(*p) for p in ((mean, step), (step, mean), (step, step))])[:, None]
        )

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of details (B, 1, H, W), the through-plane axis last, a scalar on the intensity scale."""
        return sum(nnf.l1_loss(a, b) for a, b in zip(self._strengths(input), self._strengths(target), strict=True))

    def _strengths(self, detail: torch.Tensor) -> list[torch.Tensor]:
        """Local strengths of both levels, (B, 3, H - 1, W - 1) and (B, 3, H - 3, W - 3)."""
        detail = detail.float()
        detail = detail - detail.mean(dim=-2, keepdim=True)
        coarse = nnf.conv2d(detail, self.low.to(detail))
        bands = nnf.conv2d(detail, self.bands.to(detail)), nnf.conv2d(coarse, self.bands.to(detail), dilation=2)
        return [(self.window(band.square()) + RMS_EPSILON).sqrt() for band in bands]
