"""How good samples are: networks that describe images, metrics, protocols and references of published figures.

Levels: imports 0 to 3. The evaluation is handed a sampler; it never loads a model itself.
"""
