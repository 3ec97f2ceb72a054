"""The trainer: one iteration of GLADE, in the letters of the CycleGAN paper."""

from collections.abc import Mapping

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
from .precision import precision_on

TERMS = (
    "adversarial",
    "cycle",
    "gradient",
    "identity",
    "supervised_G",
    "supervised_F",
    "acquisition",
    "adversarial_pairs",
    "local_rms",
)
UNPAIRED = {"adversarial", "cycle", "gradient", "identity", "acquisition"}  # need a patch x of a blurred plane
PAIRED = {"supervised_G", "supervised_F", "adversarial_pairs", "local_rms"}  # need a simulated acquisition
LATE = UNPAIRED | {"adversarial_pairs"}  # terms that wait for `unpaired_from`


class CycleGanTrainer(Trainer):
    """Trains G (blurred -> sharp), F (sharp -> blurred) and their discriminators D_Y, D_X.

    Args:
        device: where the networks are.
        max_epochs: epochs to train.
        train_data_loader: batches with "sharp", "augmented" and, where an unpaired term has weight, "blurred" and what
            `RandBlurredPatchd` adds.
        networks: {"G", "F", "D_Y", "D_X"}.
        optimizers: {"generators", "discriminators"}.
        weights: {term: weight}; a term of weight 0 is not computed.
        adversarial_loss: least squares, called as MONAI's `PatchAdversarialLoss`.
        gradient_loss: `GradientMappingLoss`.
        local_rms_loss: `LocalRmsLoss`.
        pair_loss: of the answer to a simulated acquisition, `torch.nn.L1Loss` or `torch.nn.MSELoss`.
        protocols: what acquisitions are simulated; a list of (first iteration, range), the last one reached counts.
        unpaired_from: iteration from which the unpaired terms and the adversary act; until then both generators learn
            from simulated pairs alone.
        history: {"Y": pool, "X": pool} of past fakes.
        consistent: whether G's answer to a simulated or measured plane ends in the projection P.
        clip: largest norm of a step's gradient, generators' and discriminators' alike, or None.
        precision: "float32", "bfloat16" or "float16" (the last with a gradient scaler, meant for CUDA); "auto" takes
            bfloat16 where the device computes in it.
        seed: of the simulated acquisitions.
        train_handlers: Ignite handlers.
        key_train_metric: MONAI's.
        postprocessing: MONAI's.
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
        history: Mapping[str, object],
        consistent: bool = True,
        clip: float | None = None,
        precision: str = "float32",
        seed: int = 0,
        train_handlers=None,
        key_train_metric=None,
        postprocessing=None,
        epoch_length: int | None = None,
    ):
        unknown = set(weights) ^ set(TERMS)
        if unknown:
            raise Refusal(f"weights must name exactly the terms {', '.join(TERMS)}; check {', '.join(sorted(unknown))}")
        if min(weights.values()) < 0 or not any(
            weights[term] > 0 for term in set(TERMS) - (LATE if unpaired_from else set())
        ):
            raise Refusal(
                f"no term of the loss has weight from the first iteration on (or one is negative): {dict(weights)}"
            )
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
        self.networks, self.optimizers, self.weights = dict(networks), dict(optimizers), dict(weights)
        self.adversarial_loss, self.gradient_loss = adversarial_loss, gradient_loss
        self.local_rms_loss, self.pair_loss = local_rms_loss, pair_loss
        self.protocols, self.unpaired_from, self.history = protocols, unpaired_from, history
        self.consistent, self.clip, self.seed = consistent, clip, seed
        self.precision, self._device = precision_on(device, precision), torch.device(device)
        self.scaling = torch.amp.GradScaler(self._device.type, enabled=self.precision is torch.float16)

    def _iteration(self, engine: Trainer, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One step of both generators, then of both discriminators; returns the losses by name."""
        G, F, D_Y, D_X = (self.networks[name] for name in ("G", "F", "D_Y", "D_X"))
        on = self._active_terms(engine.state.iteration)
        y = batch["sharp"].to(self._device)
        with self._precision():
            loss, shown_Y, shown_X = self._simulated_pairs(batch, on)
            if on & UNPAIRED:  # the paper: x from a blurred plane, y from a sharp one
                real = Measurement.from_batch(batch, self._device)
                x = real.image
                y_raw = G(real.with_conditioning(x))
                y_hat, x_hat = self._consistent(real, y_raw), F(real.with_conditioning(y))
                if on & {"cycle", "gradient"}:
                    x_cyc, y_cyc = F(real.with_conditioning(y_hat)), G(real.with_conditioning(x_hat))
                if "adversarial" in on:
                    loss["adversarial"] = self._fooled(D_Y, y_hat) + self._fooled(D_X, x_hat)
                    shown_Y.append((y, self.history["Y"](y_hat.detach())))
                    shown_X.append((x, self.history["X"](x_hat.detach())))
                if "cycle" in on:
                    loss["cycle"] = nnf.l1_loss(x_cyc, x) + nnf.l1_loss(y_cyc, y)
                if "gradient" in on:
                    loss["gradient"] = self.gradient_loss(x_cyc, x) + self.gradient_loss(y_cyc, y)
                if "identity" in on:
                    loss["identity"] = nnf.l1_loss(G(real.with_conditioning(y)), y) + nnf.l1_loss(
                        F(real.with_conditioning(x)), x
                    )
                if "acquisition" in on:
                    loss["acquisition"] = real.correction(y_raw).abs().mean()
        self._step("generators", loss)
        discriminator = {}
        with self._precision():
            for name, D, shown in (("discriminator_Y", D_Y, shown_Y), ("discriminator_X", D_X, shown_X)):
                if shown:
                    discriminator[name] = self._told_apart(D, *map(torch.cat, zip(*shown, strict=True)))
        if discriminator:
            self._step("discriminators", discriminator)
        engine.state.output = {name: float(value.detach()) for name, value in (loss | discriminator).items()}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _simulated_pairs(self, batch: Mapping[str, torch.Tensor], on: set[str]) -> tuple[dict, list, list]:
        """The physics' own pairs, absent from the paper: a sharp plane y and its simulated acquisition x_sim = U A y.

        Returns the losses by name, and what D_Y and D_X are to tell apart: lists of (real, fake).
        """
        G, F, D_Y = (self.networks[name] for name in ("G", "F", "D_Y"))
        loss, shown = {}, []
        if on & PAIRED:
            y = batch["augmented"].to(self._device)
            sim = self._simulate(y, self.state.iteration)
            if on & {"supervised_G", "adversarial_pairs", "local_rms"}:
                y_sim = self._consistent(sim, G(sim.with_conditioning(sim.image)))
            if "supervised_G" in on:
                loss["supervised_G"] = self.pair_loss(y_sim, y)
            if "local_rms" in on:
                loss["local_rms"] = self.local_rms_loss(sim.open_part(y_sim), sim.open_part(y))
            if "adversarial_pairs" in on:
                loss["adversarial_pairs"] = self._fooled(D_Y, y_sim)
                shown.append((y, y_sim.detach()))
            if "supervised_F" in on:
                loss["supervised_F"] = nnf.l1_loss(F(sim.with_conditioning(y)), sim.image)
        return loss, shown, []

    def _active_terms(self, iteration: int) -> set[str]:
        """The terms that have weight at this iteration (counted from 1)."""
        on = {term for term, weight in self.weights.items() if weight > 0}
        return on if iteration > self.unpaired_from else on - LATE

    def _simulate(self, y: torch.Tensor, iteration: int) -> Measurement:
        """The planes y, acquired by a protocol drawn for this batch; the same one whenever the iteration comes."""
        rng = np.random.default_rng((self.seed, iteration))
        protocols = [protocols for first, protocols in self.protocols if iteration > first][-1]
        try:
            geometry, noise = protocols.draw(y.shape[-1], rng)
        except ValueError as error:
            raise Refusal(str(error)) from error
        generator = torch.Generator(self._device).manual_seed(int(rng.integers(2**31)))
        return Measurement.simulate(y, geometry, noise, generator)

    def _consistent(self, measurement: Measurement, v: torch.Tensor) -> torch.Tensor:
        return measurement.project(v) if self.consistent else v

    def _fooled(self, discriminator: nn.Module, fake: torch.Tensor) -> torch.Tensor:
        """The generators' adversarial loss: the discriminator should score `fake` as real; its own weights stay."""
        discriminator.requires_grad_(False)
        return self.adversarial_loss(discriminator(fake)[-1].float(), target_is_real=True, for_discriminator=False)

    def _told_apart(self, discriminator: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """The discriminator's side: half the sum of both errors, as in CycleGAN."""
        discriminator.requires_grad_(True)
        return 0.5 * (
            self.adversarial_loss(discriminator(real)[-1].float(), target_is_real=True, for_discriminator=True)
            + self.adversarial_loss(discriminator(fake)[-1].float(), target_is_real=False, for_discriminator=True)
        )

    def _step(self, name: str, losses: Mapping[str, torch.Tensor]) -> None:
        """One optimiser step on the weighted sum of the losses (weight 1 for a discriminator's)."""
        optimizer = self.optimizers[name]
        total = sum(self.weights.get(term, 1.0) * value for term, value in losses.items())
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
        """The mean gradient over all processes, so that they take the same step.

        One flat all-reduce instead of DistributedDataParallel: a generator is called several times a step, and a
        discriminator takes part in a step that does not train it.
        """
        if idist.get_world_size() > 1:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            flat = idist.all_reduce(torch.cat([g.flatten() for g in gradients])) / idist.get_world_size()
            for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))

    def _precision(self) -> torch.autocast:
        """Mixed precision on this device; MONAI's own engines switch it on for CUDA alone."""
        return torch.autocast(self._device.type, dtype=self.precision, enabled=self.precision is not torch.float32)
