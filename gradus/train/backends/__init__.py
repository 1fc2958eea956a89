"""Other trainers with gradus' problems, scores, records and checkpoints: what they can honour, and how they are run."""
