"""The training loop: steps, moving average, validation, stopping; knows no file but its state."""

from __future__ import annotations

import copy
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

import torch

from tpcalc.errors import CheckFailed
from tpcalc.train.calibrate import calibrate
from tpcalc.train.config import LossConfig, TrainConfig
from tpcalc.train.data import GraphData, make_batch
from tpcalc.train.evaluate import errors_on_batches
from tpcalc.train.loss import loss_terms, weighted_sum
from tpcalc.train.predict import predict
from tpcalc.train.schedule import Schedule


class StopRequest:
    """Set by SIGTERM or SIGINT; the loop finishes its step, saves and returns."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @contextmanager
    def listening(self):
        """Install the handlers, and put the old ones back; only the main thread may."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGTERM, signal.SIGINT)
        old = {number: signal.signal(number, self._set) for number in signals}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _set(self, number, frame) -> None:
        if self.signal is not None:  # asked twice: do not wait for the step
            raise KeyboardInterrupt
        self.signal = number


class Trainer:
    """Trains `potential` in place and keeps a moving average of its weights in `average`.

    The only random choice is the order of the frames, a function of seed and epoch; with the
    `state()` of a stopped run, `load()` therefore continues it bit for bit (on one machine,
    the same number of threads, and without `max_minutes`, which ties the learning rate to the
    clock).
    """

    def __init__(
        self,
        potential: torch.nn.Module,
        graphs: list[GraphData],
        valid_graphs: list[GraphData],
        config: TrainConfig,
    ):
        self.potential, self.config = potential, config
        self.average = copy.deepcopy(potential).requires_grad_(False)
        self.graphs = graphs
        size = config.valid_batch_size
        self.valid_batches = [
            make_batch(valid_graphs[i : i + size], config.device)
            for i in range(0, len(valid_graphs), size)
        ]
        self.parameters = [p for p in potential.parameters() if p.requires_grad]
        named = dict(self.average.named_parameters())
        self.averaged = [named[n] for n, p in potential.named_parameters() if p.requires_grad]
        self.optimizer = _optimizer(self.parameters, config)
        self.schedule = Schedule(config.schedule)
        self.steps_per_epoch = math.ceil(len(graphs) / config.batch_size)
        self.epoch = self.step_in_epoch = self.steps = 0
        self.elapsed = 0.0  # s, over all parts of the run
        self.cpu = 0.0  # s of all threads; what a loaded machine does not stretch
        self.sums: dict[str, float] = {}  # of loss terms in this epoch
        self.best_metric = math.inf
        self.best: dict | None = None  # weights of the average at the best validation
        self.best_epoch = 0
        self.late = False  # whether the late energy weight is in force

    def calibrate(self) -> None:
        """Unit messages on the first frames; before the first step only."""
        calibrate(self.potential, make_batch(self.graphs[:20], self.config.device))
        self.average.load_state_dict(self.potential.state_dict())

    def fit(
        self,
        stop: StopRequest,
        save: Callable[[], None],
        report: Callable[[dict], None],
        tick: Callable[[], None] = lambda: None,
    ) -> str:
        """Run to the end of the budget.

        Args:
            stop: checked after every step.
            save: writes `state()`; called after every validation and at a stop.
            report: receives a row of numbers after every validation.
            tick: called after every step.

        Returns:
            "finished", or "stopped" when a signal asked for it.
        """
        before, start = self.elapsed, time.monotonic()
        cpu_before = self.cpu - time.process_time()
        while self.epoch < self.config.max_epochs and not self._out_of_time():
            order = self._order()
            if self.step_in_epoch == 0:
                self._enter_late_stage()
            while self.step_in_epoch < self.steps_per_epoch:
                self._step(order)
                self.elapsed = before + time.monotonic() - start
                self.cpu = cpu_before + time.process_time()
                tick()
                if stop.signal is not None:
                    save()
                    return "stopped"
                if self._out_of_time():
                    break
            self._end_epoch(report)
            save()
        return "finished"

    def _out_of_time(self) -> bool:
        limit = self.config.max_minutes
        return limit is not None and self.elapsed >= 60.0 * limit

    def _progress(self) -> float:
        share = self.steps / (self.config.max_epochs * self.steps_per_epoch)
        if self.config.max_minutes is not None:
            share = max(share, self.elapsed / (60.0 * self.config.max_minutes))
        return share

    def _enter_late_stage(self) -> None:
        """Switch the energy weight when its time has come; earlier bests no longer compare.

        Nor do Adam's moments: divided by those of the smaller gradients, the first steps under
        the new weight are tens of times too long (water: 28 to 50 meV/Å in one epoch).
        """
        loss = self.config.loss
        if loss.late_energy is not None and not self.late and self._progress() >= loss.late_from:
            self.late, self.best_metric = True, math.inf
            self.schedule.best = math.inf
            self.optimizer.state.clear()

    def _loss_config(self) -> LossConfig:
        loss = self.config.loss
        return dataclasses.replace(loss, energy=loss.late_energy) if self.late else loss

    def _order(self) -> list[int]:
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.epoch)
        return torch.randperm(len(self.graphs), generator=generator).tolist()

    def _step(self, order: list[int]) -> None:
        config = self.config
        first = self.step_in_epoch * config.batch_size
        chosen = [self.graphs[i] for i in order[first : first + config.batch_size]]
        batch = make_batch(chosen, config.device)
        for group in self.optimizer.param_groups:
            group["lr"] = config.optimizer.lr * self.schedule.factor(self.steps, self._progress())
        wants_stress = config.loss.stress > 0 and bool(batch.has_stress.any())
        prediction = predict(self.potential, batch, training=True, wants_stress=wants_stress)
        loss = self._loss_config()
        terms = loss_terms(prediction, batch, loss)
        self.optimizer.zero_grad(set_to_none=True)
        weighted_sum(terms, loss).backward()
        limit = config.optimizer.clip_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, limit or math.inf, foreach=True)
        if not torch.isfinite(norm):  # before the weights are touched
            raise CheckFailed(
                f"the gradient is {float(norm)} at step {self.steps} (lr "
                f"{self.optimizer.param_groups[0]['lr']:.2g}); lower optimizer.lr or look for a "
                "wrong label; the last checkpoint is intact"
            )
        self.optimizer.step()
        decay = min(config.optimizer.ema_decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.averaged, [p.detach() for p in self.parameters], 1.0 - decay)
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        self.steps += 1
        self.step_in_epoch += 1

    def _end_epoch(self, report: Callable[[dict], None]) -> None:
        done, self.step_in_epoch = self.step_in_epoch, 0
        self.epoch += 1
        last = self.epoch >= self.config.max_epochs or self._out_of_time()
        row = {"epoch": self.epoch, "steps": self.steps, "minutes": self.elapsed / 60.0}
        row["lr"] = self.optimizer.param_groups[0]["lr"]
        for name, value in self.sums.items():
            row[f"train_{name}"] = value / max(done, 1)
        self.sums = {}
        if not last and self.epoch % self.config.valid_every:
            return
        errors = errors_on_batches(self.average, self.valid_batches)["all"]
        metric = self._metric(errors)
        self.schedule.observe(metric)
        if metric < self.best_metric:
            self.best_metric, self.best_epoch = metric, self.epoch
            self.best = {k: v.clone() for k, v in self.average.state_dict().items()}
        row.update({f"valid_{k}": v for k, v in errors.items() if k != "frames"})
        row["valid_metric"], row["best_epoch"] = metric, self.best_epoch
        report(row)

    def _metric(self, errors: dict) -> float:
        """Weighted sum of squared RMSEs (eV, Å): what the best weights are chosen by."""
        loss = self._loss_config()
        weights = {"energy_per_atom": loss.energy, "forces": loss.forces, "stress": loss.stress}
        return sum(w * (1e-3 * errors.get(f"{k}_rmse", 0.0)) ** 2 for k, w in weights.items())

    def state(self) -> dict:
        """All that changes during a run, as tensors and plain types."""
        return {
            "potential": self.potential.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state(),
            "best": self.best,
            "numbers": {name: getattr(self, name) for name in _NUMBERS},
            "sums": dict(self.sums),
        }

    def load(self, state: dict) -> None:
        """Continue from `state()`."""
        self.potential.load_state_dict(state["potential"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load(state["schedule"])
        self.best = state["best"]
        for name in _NUMBERS:
            setattr(self, name, state["numbers"].get(name, math.nan))  # "cpu" came later
        self.sums = dict(state["sums"])


_NUMBERS = (
    "epoch",
    "step_in_epoch",
    "steps",
    "elapsed",
    "cpu",
    "best_metric",
    "best_epoch",
    "late",
)


def _optimizer(parameters: list[torch.nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    options = config.optimizer
    cls = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options.name]
    return cls(
        parameters,
        lr=options.lr,
        weight_decay=options.weight_decay,
        amsgrad=options.amsgrad,
        fused=True,
    )
