"""How good samples are: feature extractors, the Frechet distance, class accuracy.

Levels: imports 0 to 3. The evaluation is handed a sampler; it never loads a model itself.
"""
