// tpcalc::conv and tpcalc::conv_bwd: equivariant convolution over neighbours and its derivatives.
#pragma once

// Makes the ops known to torch's dispatcher unless another library of this process has done so
// (the LAMMPS plugin carries the same objects). Runs by itself when the library is loaded.
extern "C" void tpcalc_register_ops();
