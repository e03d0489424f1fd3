// One translation unit: torch's headers cost 20 seconds, and are read once.
// SPDX-License-Identifier: GPL-2.0-or-later
#include "halo.cpp"
#include "model.cpp"
