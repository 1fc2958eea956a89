"""Economic decisions: one household of a macro-economic simulation says how willing it is to work, and how much it spends.

Nothing is imported here: answers are read and scored from tables without NumPy, which only the simulation needs.
"""
