"""The training iteration: CycleGAN on unpaired planes, and supervised terms on simulated acquisitions."""

from collections.abc import Callable, Mapping, Sequence

import ignite.distributed as idist
import numpy as np
import torch
import torch.nn.functional as nnf
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from torch import nn
from torch.optim import Optimizer

from ..geometry.errors import Refusal
from ..physics.measurement import Measurement
from ..physics.protocol import ProtocolRange
from .losses import LossWeights
from .precision import precision_on

Planes = Callable[[torch.Tensor], torch.Tensor]  # planes (B, 1, H, W) to planes of the same shape


class CycleGanTrainer(Trainer):
    """Trainer of G (blurred -> sharp), F (sharp -> blurred) and their discriminators D_Y (sharp) and D_X (blurred).

    Args:
        device: device of the networks.
        max_epochs: number of epochs to train.
        train_data_loader: gives batches with "sharp" and "augmented" planes (B, 1, H, W) and, where an unpaired term
            has weight, the keys that `RandBlurredPatchd` adds. Its dataset has `examples`, as `UnpairedPatches` has.
        networks: {"G", "F", "D_Y", "D_X"}.
        optimizers: {"generators", "discriminators"}.
        weights: weight of every term of `LossWeights` by name; a term of weight 0 is not computed.
        adversarial_loss: least-squares loss with the call of MONAI's `PatchAdversarialLoss`.
        gradient_loss: `GradientMappingLoss`.
        local_rms_loss: `LocalRmsLoss`.
        pair_loss: loss between P(G(x_sim)) and y, such as `torch.nn.L1Loss` or `torch.nn.MSELoss`.
        protocols: (first iteration, range of protocols to simulate), in order; the last one reached is used.
        unpaired_from: number of iterations after which the unpaired and adversarial terms start.
        history: {"Y": pool, "X": pool} of earlier generated planes, see `HistoryPool`.
        consistent: whether predictions of G pass the data-consistency projection P.
        clip: largest gradient norm of a step, for generators and discriminators; None for no limit.
        precision: "float32", "bfloat16" or "float16" (with gradient scaling, meant for CUDA); "auto" takes bfloat16
            where the device is faster in it.
        seed: seed of the simulated acquisitions.
        train_handlers: handlers attached to the trainer.
        key_train_metric: as for MONAI's `Trainer`.
        postprocessing: as for MONAI's `Trainer`.
        epoch_length: iterations of an epoch; None for the length of the loader.

    Raises:
        Refusal: if a weight is missing, unknown or negative, no term has weight at the first iteration, the patches
            of an epoch do not fill a batch, or do not fit what will be computed before the training ends.
    """

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        weights: Mapping[str, float],
        adversarial_loss: nn.Module,
        gradient_loss: nn.Module,
        local_rms_loss: nn.Module,
        pair_loss: nn.Module,
        protocols: list[tuple[int, ProtocolRange]],
        unpaired_from: int,
        history: Mapping[str, Planes],
        consistent: bool = True,
        clip: float | None = None,
        precision: str = "float32",
        seed: int = 0,
        train_handlers=None,
        key_train_metric=None,
        postprocessing=None,
        epoch_length: int | None = None,
    ):
        self.weights = LossWeights.from_mapping(weights)
        first = self.weights.active(unpaired=unpaired_from == 0)
        if not (first.any_supervised or first.any_unpaired):
            raise Refusal(f"no term of the loss has weight from the first iteration on: {dict(weights)}")
        super().__init__(
            device=torch.device(device),
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            epoch_length=epoch_length,
            handlers=train_handlers,
            key_metric=key_train_metric,
            postprocessing=postprocessing,
            decollate=False,
        )
        if not self.state.epoch_length:
            raise Refusal(
                "the patches of an epoch do not fill one batch of each process: give a larger --patches_per_epoch, "
                "or a smaller --batch_size"
            )
        self.networks, self.optimizers = dict(networks), dict(optimizers)
        self.adversarial_loss, self.gradient_loss = adversarial_loss, gradient_loss
        self.local_rms_loss, self.pair_loss = local_rms_loss, pair_loss
        self.protocols, self.unpaired_from, self.history = protocols, unpaired_from, history
        self.consistent, self.clip, self.seed = consistent, clip, seed
        self._require_fitting_patches(train_data_loader.dataset.examples())
        self.precision, self._device = precision_on(device, precision), torch.device(device)
        self.scaling = torch.amp.GradScaler(self._device.type, enabled=self.precision is torch.float16)

    def _iteration(self, engine: Trainer, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:  # noqa: C901 one if a term
        """Update G and F, then D_Y and D_X; return the loss terms by name."""
        D_Y, D_X = self.networks["D_Y"], self.networks["D_X"]
        weights = self.weights.active(unpaired=engine.state.iteration > self.unpaired_from)
        loss, real_fake = {}, {"Y": [], "X": []}
        with self._autocast():
            if weights.any_supervised:  # the physics gives pairs: a sharp plane y and x_sim = U A y
                y = batch["augmented"].to(self._device)
                sim = self._simulate(y)
                G, F, P, x_sim = *self._conditioned_on(sim), sim.image
                if weights.supervised_G or weights.local_rms or weights.adversarial_pairs:
                    y_sim = P(G(x_sim))
                if weights.supervised_G:
                    loss["supervised_G"] = self.pair_loss(y_sim, y)
                if weights.local_rms:
                    loss["local_rms"] = self.local_rms_loss(sim.open_part(y_sim), sim.open_part(y))
                if weights.adversarial_pairs:
                    loss["adversarial_pairs"] = self._adversarial(D_Y, y_sim)
                    real_fake["Y"].append((y, y_sim))
                if weights.supervised_F:
                    loss["supervised_F"] = nnf.l1_loss(F(y), x_sim)
            if weights.any_unpaired:  # the paper: x and y come from different scans
                real = Measurement.from_batch(batch, self._device)
                G, F, P, x, y = *self._conditioned_on(real), real.image, batch["sharp"].to(self._device)
                G_x = G(x)
                y_hat, x_hat = P(G_x), F(y)
                if weights.cycle or weights.gradient:
                    x_cyc, y_cyc = F(y_hat), G(x_hat)
                if weights.adversarial:
                    loss["adversarial"] = self._adversarial(D_Y, y_hat) + self._adversarial(D_X, x_hat)
                    real_fake["Y"].append((y, self.history["Y"](y_hat)))
                    real_fake["X"].append((x, self.history["X"](x_hat)))
                if weights.cycle:
                    loss["cycle"] = nnf.l1_loss(x_cyc, x) + nnf.l1_loss(y_cyc, y)
                if weights.gradient:
                    loss["gradient"] = self.gradient_loss(x_cyc, x) + self.gradient_loss(y_cyc, y)
                if weights.identity:
                    loss["identity"] = nnf.l1_loss(G(y), y) + nnf.l1_loss(F(x), x)
                if weights.acquisition:
                    loss["acquisition"] = real.correction(G_x).abs().mean()
        self._step("generators", loss)
        loss_D = self._discriminator_losses(real_fake)
        self._step("discriminators", loss_D)
        return self._completed(engine, loss | loss_D)

    def _require_fitting_patches(self, examples: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Refuse at the start what the terms and protocols that begin later could not be computed on."""
        last = self.state.max_epochs * self.state.epoch_length
        weights = self.weights.active(unpaired=last > self.unpaired_from)
        if weights.any_unpaired and not all("blurred" in item for item in examples):
            raise Refusal(
                f"unpaired terms of the loss begin after iteration {self.unpaired_from} of {last}, and need blurred "
                f"patches: drop --blurred_patch '$None', or give a larger --unpaired_from"
            )
        reached = {first: protocols for first, protocols in self.protocols if first < last}
        for protocols in reached.values() if weights.any_supervised else ():
            for item in examples:
                protocols.require_room(item["sharp"].shape[-1])

    def _conditioned_on(self, measurement: Measurement) -> tuple[Planes, Planes, Planes]:
        """G and F with the conditioning of a measurement, and its projection P (without `consistent`, the identity)."""

        def G(planes: torch.Tensor) -> torch.Tensor:
            return self.networks["G"](measurement.with_conditioning(planes))

        def F(planes: torch.Tensor) -> torch.Tensor:
            return self.networks["F"](measurement.with_conditioning(planes))

        return G, F, measurement.project if self.consistent else nn.Identity()

    def _simulate(self, y: torch.Tensor) -> Measurement:
        """Acquire the planes y by a protocol drawn for this batch; the draw depends on seed and iteration alone."""
        iteration = self.state.iteration
        rng = np.random.default_rng((self.seed, iteration))
        protocols = [protocols for first, protocols in self.protocols if iteration > first][-1]
        geometry, noise = protocols.draw(y.shape[-1], rng)
        generator = torch.Generator(self._device).manual_seed(int(rng.integers(2**31)))
        return Measurement.simulate(y, geometry, noise, generator)

    def _adversarial(self, D: nn.Module, fake: torch.Tensor) -> torch.Tensor:
        """The generators' side: D should score `fake` as real; the weights of D take no gradient."""
        D.requires_grad_(False)
        return self.adversarial_loss(D(fake)[-1].float(), target_is_real=True, for_discriminator=False)

    def _discriminator_losses(
        self, real_fake: Mapping[str, Sequence[tuple[torch.Tensor, torch.Tensor]]]
    ) -> dict[str, torch.Tensor]:
        """The discriminators' side: half the sum of the losses on real and on fake planes, as in CycleGAN.

        Args:
            real_fake: pairs of (real, fake) batches for each domain, "Y" and "X"; a domain without any is left out.
        """
        losses = {}
        for domain, pairs in real_fake.items():
            if pairs:
                D, (real, fake) = self.networks[f"D_{domain}"], map(torch.cat, zip(*pairs, strict=True))
                D.requires_grad_(True)
                with self._autocast():
                    scores_real, scores_fake = D(torch.cat([real, fake.detach()]))[-1].float().chunk(2)
                    losses[f"discriminator_{domain}"] = 0.5 * (
                        self.adversarial_loss(scores_real, target_is_real=True, for_discriminator=True)
                        + self.adversarial_loss(scores_fake, target_is_real=False, for_discriminator=True)
                    )
        return losses

    def _step(self, name: str, losses: Mapping[str, torch.Tensor]) -> None:
        """Take one optimizer step on the weighted sum of the losses; a discriminator's loss has weight 1."""
        if not losses:
            return
        optimizer = self.optimizers[name]
        total = sum(getattr(self.weights, term, 1.0) * value for term, value in losses.items())
        if not torch.isfinite(total):
            terms = ", ".join(f"{term} {float(value):.3g}" for term, value in losses.items())
            raise Refusal(
                f"the loss is not finite at iteration {self.state.iteration} ({terms}): the last checkpoint is kept; "
                f"lower the learning rate or set clip, then resume from it"
            )
        optimizer.zero_grad(set_to_none=True)
        self.scaling.scale(total).backward()
        self._average_gradients(optimizer)
        if self.clip is not None:
            self.scaling.unscale_(optimizer)
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.clip)
        self.scaling.step(optimizer)
        self.scaling.update()

    @staticmethod
    def _average_gradients(optimizer: Optimizer) -> None:
        """Average the gradients over all processes, so that they take the same step.

        One flat all-reduce instead of DistributedDataParallel: a generator is called several times in a step, and a
        discriminator takes part in a step that does not train it.
        """
        if idist.get_world_size() > 1:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            flat = idist.all_reduce(torch.cat([g.flatten() for g in gradients])) / idist.get_world_size()
            for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))

    def _autocast(self) -> torch.autocast:
        """Mixed precision on any device; MONAI's own engines switch it on for CUDA alone."""
        return torch.autocast(self._device.type, dtype=self.precision, enabled=self.precision is not torch.float32)

    @staticmethod
    def _completed(engine: Trainer, losses: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """Set the losses as the engine's output and report that the networks have run, as MONAI's engines do."""
        engine.state.output = {name: float(value.detach()) for name, value in losses.items()}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output
