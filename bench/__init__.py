"""Measurements, as ratios in one run on one machine against what people would use instead.

    world (state directory, engine, containers, gateway, two sshd) ─► peers: how each is reached
    figures: what is measured ─► turns: every peer once in every round ─► rows: medians
    rows ─► report: table, ratios, goals ─► terminal, docs/performance.md
         └► plots: docs/bench/*.svg

A figure runs every peer once in every round, so that a slow moment of the machine hits all alike. Compare the
ratios; the seconds belong to the machine.
"""
