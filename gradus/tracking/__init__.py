"""Experiment trackers (TensorBoard, Weights & Biases, trackio), fed from a run's records by processes of their own.

`metrics.jsonl` is the only source of truth. A tracker reads it from outside (`follow.py`), so that no tracker, whatever
it does, can stop, slow or change a run; `followers.py` starts these processes beside a training run.
"""
