// The door through which LAMMPS enters: refuse what does not fit, then announce the pair style.
// SPDX-License-Identifier: GPL-2.0-or-later
#include "abi.h"
#include "pair_tpcalc.h"

#include "comm.h"
#include "lammps.h"
#include "library.h"
#include "lmptype.h"
#include "utils.h"

#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <malloc.h>

using namespace LAMMPS_NS;

#ifndef TPCALC_LAMMPS_VERSION
#error "TPCALC_LAMMPS_VERSION must hold the LAMMPS version, e.g. \"22 Jul 2025\""
#endif
#define KERNELS "libtpcalc_ops.so"

static void *make_pair(void *lmp) { return static_cast<Pair *>(new PairTPCalc((LAMMPS *) lmp)); }

static void warn(LAMMPS *lmp, const std::string &text) {
  if (lmp->comm->me == 0) utils::logmesg(lmp, "WARNING: tpcalc plugin: " + text + "\n");
}

static std::string folder_of_this_file() {
  Dl_info info;
  if (!dladdr((void *) &make_pair, &info) || !info.dli_fname) return ".";
  const std::string path = info.dli_fname;
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

// The tensor-product kernels lie beside the plugin. It is the same file (inode) that Python loads,
// so in a Python process that has it already the loader maps nothing and nothing registers twice.
static void kernels_once(LAMMPS *lmp) {
  static bool done = false;
  if (done) return;
  done = true;
  const std::string library = folder_of_this_file() + "/" KERNELS;
  if (!std::ifstream(library)) return;  // a potential that needs them will say which is missing
  const std::string why = tpcalc::load_kernels(library);
  if (!why.empty()) warn(lmp, "cannot load " + library + ": " + why);
}

extern "C" void lammpsplugin_init(void *ptr, void *handle, void *regfunc) {
  auto lmp = (LAMMPS *) ptr;
  // the layout of Pair, Comm and Atom belongs to one release: refuse, do not crash
  if (strcmp(lmp->version, TPCALC_LAMMPS_VERSION) != 0)
    return warn(lmp, std::string("built for LAMMPS " TPCALC_LAMMPS_VERSION ", this is ") +
                         lmp->version + "; not loaded. Run `tpcalc build`");
  if (lammps_extract_setting(ptr, "tagint") != (int) sizeof(tagint) ||
      lammps_extract_setting(ptr, "bigint") != (int) sizeof(bigint))
    return warn(lmp, "built with other integer sizes (SMALLBIG, BIGBIG) than this LAMMPS; not loaded");
  // large temporaries return every step: giving them back to the system each time costs 25 %
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  tpcalc::register_halo_ops();
  kernels_once(lmp);
  tpcalc_lammpsplugin plugin;
  memset(&plugin, 0, sizeof plugin);
  plugin.version = lmp->version;
  plugin.style = "pair";
  plugin.name = "tpcalc";
  plugin.info = "tpcalc potentials (TorchScript)";
  plugin.author = "the tpcalc authors";
  plugin.creator.v1 = &make_pair;
  plugin.handle = handle;
  ((tpcalc_regfunc) regfunc)(&plugin, ptr);
}
