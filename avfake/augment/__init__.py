"""Augmentation that keeps every label true: what happens to genuine clips and fakes alike on their way to us.

It removes what betrays a corpus instead of a fake: resolution, compression, colour, noise floor, bandwidth, silence.
``augment`` draws a random chain for a ``Sample``; the modules hold the single transformations, each with its strength
as a parameter: ``picture`` and ``voice`` (arrays), ``codecs`` (arrays, real encoders), ``timing`` (samples).
"""

from numpy.random import Generator as Rng

from avfake.augment.chain import augment, augment_lips, augment_voice

__all__ = ["Rng", "augment", "augment_lips", "augment_voice"]
