"""Economic decisions: one household of a macro-economic simulation says how willing it is to work, and how much it spends.

Where to look, each line in the order of reading:

- the economy: `simulator.py`, with `parameters.py`, `states.py`, `shocks.py`, `serving.py`, `snapshot.py`, `policies.py`,
  `titles.py`
- what is asked: `contexts.py`, `problems.py`, `prompts.py`, `memory.py`; prepared data: `files.py`, `archive.py`
- how an answer is read and paid: `decision.py`, `lenient.py`, `reward.py`, `values.py`, `counterfactual.py`; the original
  project's reward: `facts.py`, `seed_reward.py`; what a reward can teach: `audit.py`
- what is said of a policy: `analysis.py`, `analysis_tables.py`, `ladder.py`, `collapse.py`, `health.py`; in whole economies:
  `closed_loop.py`, `loop_metrics.py`, `loop_table.py`
- `task.py` joins them, with `options.py`, `checks.py` (cases of the self-test) and `errors.py`

Nothing is imported here: answers are read and scored from tables without NumPy, which only the simulation needs.
"""
