"""Hypothesis without a stop-watch: a shared machine is slow now and then, and CPU bounds are tested as such."""

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
