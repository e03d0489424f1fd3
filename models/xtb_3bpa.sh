#!/bin/sh
# 2,100 frames of 3BPA at 300, 600 and 1000 K, and the four atoms, labelled by GFN2-xTB, in
# runs/xtb_3bpa.xyz: what 3bpa-* are trained on first. Needs `pip install 'tpcalc[labels]'`.
# A shipped potential moves the molecule, xTB alone makes the labels; another potential or machine
# gives other frames of the same distribution.
set -e
cd "$(dirname "$0")/.."
mkdir -p runs
for temperature in 300 600 1000; do
  tpcalc md models/3bpa-cg/potential.safetensors examples/3bpa.xyz --ensemble nvt \
    --temperature $temperature --seed $temperature --steps 14000 --interval 20 --threads 1 \
    --variant cg/fused --trajectory runs/md_$temperature.xyz --overwrite
done
python -m tpcalc.train.xtb runs/xtb_3bpa.xyz \
  --structures runs/md_300.xyz runs/md_600.xyz runs/md_1000.xyz
