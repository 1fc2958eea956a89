"""Embedded policies: complete small language models, one folder per task family. How they are made: `build.py`."""
