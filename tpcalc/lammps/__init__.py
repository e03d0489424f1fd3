"""LAMMPS: where the pair style lies, how it is built, and running decks with it."""
