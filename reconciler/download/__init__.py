"""Downloading from several sources over as many connections as pay off.

The one downloader of `fetch` and of remote sources. What it fetches are *units*, numbered by the caller: the
blocks of a version, or the leaves of one that is not identified yet. The scheduler and the pace of the
connections are pure: they see no bytes, no network and no clock. `engine` runs them with threads. It uses
nothing of the project, so a source can be anything that delivers units.
"""
