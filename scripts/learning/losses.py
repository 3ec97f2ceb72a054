"""The terms of the generators' loss, and the loss functions that neither torch nor MONAI has."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import torch
import torch.nn.functional as nnf
from monai.networks.layers import GaussianFilter
from torch.nn.modules.loss import _Loss

from ..geometry.checks import is_number
from ..geometry.errors import Refusal

FORMS = ("paper", "components", "magnitude")
SOBEL_SUM = 8.0  # sum of the absolute Sobel weights; after division a map is a mean difference over two pixels
MAGNITUDE_EPSILON = 1e-12  # square of the intensity scale; keeps the gradient of the root finite at 0
RMS_EPSILON = 1e-6  # likewise for a root mean square; its root, 0.001 of the scale, is below the noise of any scan

# Metadata of a term: the data that it needs, and whether it waits for the trainer's `unpaired_from`
UNPAIRED = {"data": "unpaired", "waits": True}
SUPERVISED = {"data": "supervised", "waits": False}
SUPERVISED_ADVERSARIAL = {"data": "supervised", "waits": True}


@dataclass(frozen=True)
class LossWeights:
    """Weights of all terms of the generators' loss; its fields are the list of terms.

    To add a term, add a field here, its computation in `CycleGanTrainer._iteration` and its key in configs/train.yaml.

    x is a blurred plane, y a sharp plane (of another scan), x_sim = U A y the simulated acquisition of a sharp plane,
    b the acquired slices of x, P the data-consistency projection and |.| the mean absolute value. Terms that need
    x are "unpaired", terms that need x_sim "supervised".

    Args:
        adversarial: D_Y(P(G(x))) and D_X(F(y)) should score as real (CycleGAN, least squares).
        cycle: |F(P(G(x))) - x| + |G(F(y)) - y| (CycleGAN).
        gradient: gradient mapping loss of the same two differences (the paper, equation 1).
        identity: |G(y) - y| + |F(x) - x| (an option of CycleGAN).
        acquisition: |C (b - A G(x))|, the correction that P makes to G(x).
        supervised_G: distance of P(G(x_sim)) from y.
        supervised_F: |F(y) - x_sim|.
        local_rms: difference in local RMS of P(G(x_sim)) and y, in the part that the slices leave undetermined.
        adversarial_pairs: D_Y(P(G(x_sim))) should score as real.

    >>> weights = LossWeights(1, 10, 10, 0, 0, 5, 0, 0, 0)
    >>> weights.active(unpaired=False).cycle, weights.active(unpaired=False).supervised_G
    (0.0, 5)
    """

    adversarial: float = field(metadata=UNPAIRED)
    cycle: float = field(metadata=UNPAIRED)
    gradient: float = field(metadata=UNPAIRED)
    identity: float = field(metadata=UNPAIRED)
    acquisition: float = field(metadata=UNPAIRED)
    supervised_G: float = field(metadata=SUPERVISED)
    supervised_F: float = field(metadata=SUPERVISED)
    local_rms: float = field(metadata=SUPERVISED)
    adversarial_pairs: float = field(metadata=SUPERVISED_ADVERSARIAL)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of all terms."""
        return [term.name for term in fields(cls)]

    @classmethod
    def from_mapping(cls, weights: Mapping[str, float]) -> "LossWeights":
        """Make the weights from {term: weight}.

        Raises:
            Refusal: if a term is missing or unknown, or a weight is not a number of at least 0.
        """
        differing = sorted(set(weights) ^ set(cls.names()))
        if differing:
            raise Refusal(
                f"weights must name exactly the terms {', '.join(cls.names())}; check {', '.join(differing)}; "
                f"to change one of them, set weights::TERM"
            )
        wrong = {term: weight for term, weight in weights.items() if not is_number(weight) or weight < 0}
        if wrong:
            raise Refusal(f"the weights of the loss must be numbers of at least 0, got {wrong}")
        return cls(**weights)

    def active(self, unpaired: bool) -> "LossWeights":
        """Return the weights that act now.

        Args:
            unpaired: whether the unpaired and adversarial terms have started; before that their weight is 0.
        """
        waiting = () if unpaired else (term.name for term in fields(self) if term.metadata["waits"])
        return replace(self, **dict.fromkeys(waiting, 0.0))

    @property
    def any_unpaired(self) -> bool:
        """Whether a term with weight needs a blurred plane x."""
        return self._any_of("unpaired")

    @property
    def any_supervised(self) -> bool:
        """Whether a term with weight needs a simulated acquisition x_sim."""
        return self._any_of("supervised")

    def _any_of(self, data: str) -> bool:
        return any(getattr(self, term.name) > 0 for term in fields(self) if term.metadata["data"] == data)


class GradientMappingLoss(_Loss):
    """The paper's gradient mapping loss, equation 1, on the Sobel maps S_x and S_y of two images.

    With a the cycled image F(G(x)) and b the image x, both of shape (B, 1, H, W):

    - "paper": the equation as printed, mean |S_x(a) - S_x(b) + S_y(a) - S_y(b)|. The two differences are summed
      inside the norm, so opposite errors along x and y cancel.
    - "components": mean |S_x(a) - S_x(b)| + mean |S_y(a) - S_y(b)|; nothing cancels.
    - "magnitude": mean | |S(a)| - |S(b)| | with |S| = sqrt(S_x^2 + S_y^2), independent of the direction of an edge.

    Args:
        form: one of the three.

    Raises:
        Refusal: for any other form.
        ValueError: for images of different shapes.

    >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # rises along x, its transpose along y
    >>> [round(float(GradientMappingLoss(form)(ramp, ramp.mT)), 2) for form in FORMS]
    [0.19, 1.75, 0.19]
    """

    def __init__(self, form: str):
        super().__init__()
        if form not in FORMS:
            raise Refusal(f"gradient_form must be one of {', '.join(FORMS)}, got {form!r}")
        self.form = form
        smooth, step = torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0])
        along_x = torch.outer(smooth, step)
        self.register_buffer("kernels", torch.stack([along_x, along_x.T])[:, None] / SOBEL_SUM)

    def gradients(self, image: torch.Tensor) -> torch.Tensor:
        """Return the Sobel maps (B, 2, H, W) of an image (B, 1, H, W), borders replicated; intensity per pixel."""
        return nnf.conv2d(nnf.pad(image, [1, 1, 1, 1], mode="replicate"), self.kernels.to(image))

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of two images (B, 1, H, W), a scalar on the intensity scale."""
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
    """Mean difference in local RMS between two detail images, summed over wavelet bands: | rms(a) - rms(b) |.

    The RMS is taken under a Gaussian window. The prediction with the least squared error is a mean over all anatomy
    that could explain the slices, so its detail is weaker than that of the truth. Among predictions whose detail is as
    strong as the truth's, the amplified mean has the least error (for Gaussian signals: Freirich, Michaeli and Meir
    2021, arXiv 2107.02555). This loss asks for the right local RMS and leaves the pattern to the other terms.

    The bands of an undecimated Haar transform (two levels, three directions) are compared one by one, so that a single
    fine pattern over the whole image does not satisfy the loss. A constant offset per plane would satisfy this loss
    trivially, so row means are removed: what all lines across the slices of a patch have in common does not count.

    Args:
        sigma_pixels: standard deviation of the window, along both axes of the plane.

    >>> detail = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> loss = LocalRmsLoss(sigma_pixels=3.0)
    >>> float(loss(-detail, detail))  # the same local RMS
    0.0
    >>> float(loss(2 * detail, detail)) > 0.5
    True
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
        """Return the loss of two detail images (B, 1, H, W), through-plane axis last; a scalar.

        Volumes (B, 1, P, H, W) count as their planes (H, W).
        """
        return sum(nnf.l1_loss(a, b) for a, b in zip(self._local_rms(input), self._local_rms(target), strict=True))

    def _local_rms(self, detail: torch.Tensor) -> list[torch.Tensor]:
        """Local RMS of both levels, (B, 3, H - 1, W - 1) and (B, 3, H - 3, W - 3)."""
        detail = detail.float().reshape(-1, 1, *detail.shape[-2:])
        detail = detail - detail.mean(dim=-2, keepdim=True)
        coarse = nnf.conv2d(detail, self.low.to(detail))
        bands = nnf.conv2d(detail, self.bands.to(detail)), nnf.conv2d(coarse, self.bands.to(detail), dilation=2)
        return [(self.window(band.square()) + RMS_EPSILON).sqrt() for band in bands]
