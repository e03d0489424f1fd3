"""Radial splines for the elements of the structures that come, made when they come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from ase.data import chemical_symbols

from tpcalc.errors import InputError
from tpcalc.evaluator import Evaluation, Evaluator
from tpcalc.nn.radial_spline import check_splinable, spline_radials
from tpcalc.potential import Potential


class SplinedEvaluator(Evaluator):
    """An `Evaluator` whose `potential` is splined for the elements met so far, and grows with them.

    For potentials with a spline table for each pair of species: 89 elements would need 7921 of
    them, a structure has few. Until the first structure `potential` is the one that was given.

    Args:
        potential: with fused convolutions.
        skin: Å.
        script: what makes `run` from a splined potential; None runs the potential itself.

    Raises:
        InputError: see `check_splinable`.
    """

    def __init__(self, potential: Potential, skin: float = 0.5, script: Callable | None = None):
        check_splinable(potential)
        super().__init__(potential, skin)
        self.source, self.script = potential, script

    def species(self, numbers: np.ndarray) -> torch.Tensor:
        """As `Evaluator.species`; elements that are new get their splines here."""
        met = {chemical_symbols[z] for z in np.unique(numbers)}
        splined = hasattr(self.potential, "spline_error")
        known = set(self.potential.species) if splined else set()
        if not met <= known:
            unknown = sorted(met - set(self.source.species))
            if unknown:
                raise InputError(
                    f"element {unknown[0]!r} is unknown to this potential; it knows "
                    f"{', '.join(self.source.species)}"
                )
            self._use(spline_radials(self.source.of_species(met | known)))
        return super().species(numbers)

    def _use(self, potential: Potential) -> None:
        self.potential = potential
        self.run = self.script(potential) if self.script else potential
        self._set_index()

    def batch(self, structures: list[tuple], max_edges: int = 200_000) -> list[Evaluation]:
        """As `Evaluator.batch`; all their elements are met first, so that indices stay."""
        if structures:
            self.species(np.concatenate([numbers for *_, numbers in structures]))
        return super().batch(structures, max_edges)
