// The side that knows LAMMPS and not torch.
// SPDX-License-Identifier: GPL-2.0-or-later
#include "pair_tpcalc.cpp"
#include "pair_tpcalc_run.cpp"
#include "plugin.cpp"
#include "manifest.cpp"
