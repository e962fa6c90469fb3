"""From a manifest to shards of clips, by the very code that detection uses.

The rows are dealt into shards by a plan that depends on nothing but the manifest, so any number of workers on any
engine makes the same bytes. A shard appears whole or not at all; whoever runs the same command again, after kill -9
or after the manifest has changed, makes only what is missing: a clip is known by its row, the hash of its files, and
the preprocessing version.
"""

from __future__ import annotations

from avfake.prepare.plan import PrepareError
from avfake.prepare.run import prepare
from avfake.prepare.worker import Done, Summary

__all__ = ["Done", "PrepareError", "Summary", "prepare"]
