"""Learning rate over the run, as a factor on the configured one."""

from __future__ import annotations

import math

from tpcalc.train.config import ScheduleConfig


class Schedule:
    """`factor(step, progress)`; plateau also listens to `observe(metric)` after validations."""

    def __init__(self, config: ScheduleConfig):
        self.config = config
        self.reduced = 1.0
        self.best = math.inf
        self.waited = 0

    def factor(self, step: int, progress: float) -> float:
        """Factor on the learning rate; `progress` runs from 0 to 1 over the whole run."""
        config = self.config
        warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
        if config.name == "plateau":
            return warmup * self.reduced
        if config.name == "constant":
            return warmup
        progress = min(1.0, max(0.0, progress))
        final = config.final_fraction
        if config.name == "cosine":
            return warmup * (final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress)))
        return warmup * final**progress

    def observe(self, metric: float) -> None:
        """Count validations without improvement; reduce after `patience` of them."""
        if metric < self.best:
            self.best, self.waited = metric, 0
            return
        self.waited += 1
        if self.waited > self.config.patience:
            self.reduced *= self.config.factor
            self.waited = 0

    def state(self) -> dict:
        """Plain numbers for the checkpoint."""
        return {"reduced": self.reduced, "best": self.best, "waited": self.waited}

    def load(self, state: dict) -> None:
        """Continue from `state()`."""
        self.reduced, self.best, self.waited = state["reduced"], state["best"], state["waited"]
