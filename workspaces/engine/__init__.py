"""The container engine behind one small interface: `base` has it, `dockerd` and `memory` implement it."""
