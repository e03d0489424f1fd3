"""`tpcalc::halo_exchange`: ghosts receive their owners' features; the identity outside LAMMPS."""

from __future__ import annotations

import torch

_library: list[torch.library.Library] = []  # torch unregisters the op when its Library dies


def register_halo_exchange() -> None:
    """Define the op unless it exists (the LAMMPS plugin may have come first)."""
    if _library or hasattr(torch.ops.tpcalc, "halo_exchange"):
        return
    library = torch.library.Library("tpcalc", "FRAGMENT")
    library.define("halo_exchange(Tensor x) -> Tensor")
    library.impl("halo_exchange", lambda x: x.clone(), "CompositeImplicitAutograd")
    _library.append(library)
