"""``optimizer.auto_microbatch``: an update that does not fit into memory is begun again with half the micro-batch.

The update is then the one of a run that was started with the smaller micro-batch, bit for bit: nothing of the failed
attempt is kept, and the seeds count from its first micro-batch again.
"""

from __future__ import annotations

import gc
from dataclasses import replace

import torch

from gradus.train.batch import Batch
from gradus.train.memory import is_out_of_memory
from gradus.train.session import Session
from gradus.train.update import Settings, cuts_of


class Fitting:
    """What `update` asks when memory did not suffice. Remembers the smaller micro-batch for the rest of the run.

    Example:
        fitting = Fitting(session, batch)
        row = update(policy, optimizer, batch, fitting.begin(settings), shrink=fitting.shrink)
    """

    def __init__(self, session: Session, batch: Batch) -> None:
        self._session, self._batch = session, batch

    def begin(self, settings: Settings) -> Settings:
        """``settings`` with the micro-batch that this run has come down to."""
        found = self._session.state.counters.get("microbatch")
        return settings if found is None else replace(settings, microbatch_tokens=found[0], microbatch_size=found[1])

    def shrink(self, settings: Settings, error: Exception) -> Settings:
        """Half the micro-batch; raises ``error`` again where that is not wanted, not the matter, or not possible."""
        session = self._session
        if not session.config.optimizer.auto_microbatch or not is_out_of_memory(error):
            raise error
        smaller = halved(self._batch, settings)
        if smaller is None:
            raise error
        error.__traceback__ = None  # its frames hold the tensors of the failed attempt
        gc.collect()
        if (kind := session.state.policy.device.type) != "cpu":
            getattr(torch, kind).empty_cache()
        session.state.counters["microbatch"] = [smaller.microbatch_tokens, smaller.microbatch_size]
        session.warn(
            f"step {session.state.step + 1}: out of memory in the update; it begins again, from here on with micro-batches of "
            f"{smaller.microbatch_tokens} tokens (before: {settings.microbatch_tokens})"
        )
        return smaller


def halved(batch: Batch, settings: Settings) -> Settings | None:
    """Settings with half the micro-batch, as often as it takes to cut ``batch`` in another way; None where each of its
    completions is alone already."""
    cuts = cuts_of(batch, settings)
    if all(len(cut) <= 1 for cut in cuts):
        return None
    while cuts_of(batch, settings) == cuts:
        size = settings.microbatch_size
        settings = replace(
            settings,
            microbatch_tokens=max(1, settings.microbatch_tokens // 2),
            microbatch_size=None if size is None else max(1, size // 2),
        )
    return settings
