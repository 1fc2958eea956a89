"""Run health: rules over the rows of `metrics.jsonl` that say when a run is sick, why, and what to do.

Standard library only, so that a report can replay the rules on any machine: `Monitor` in `monitor.py`.
"""
