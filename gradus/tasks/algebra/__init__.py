"""Mathematical answers as values: normal form, expressions, numbers, regions, structures. Standard library and mpmath.

Reading order: ``latex`` (text to text), ``expressions`` (text to tree), ``numeric`` (tree to number), ``quantities``
(a value with its unit), ``regions`` (sets of reals), ``structures`` (tuples, relations, matrices ...), ``compare``.
"""
