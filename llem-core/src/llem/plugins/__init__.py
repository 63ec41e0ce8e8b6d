"""The door. A plugin is a distribution with one entry point in the group `llem`:

    [project.entry-points.llem]
    mine = "llem_mine.hooks"

`llem_mine/hooks.py` imports nothing heavy and implements hooks with the marker below. Hooks return `Reference`s,
not classes, so that a study can be planned on a machine where the engine itself is not installed:

    from llem.plugins import Reference, hookimpl

    @hookimpl
    def llem_backends():
        return [Reference("mine", "llem_mine.backend:MineBackend", config="llem_mine.config:MineConfig",
                          requires=("mine",), summary="My engine.")]
"""

from llem.plugins.reference import NAME, Reference, Support, hookimpl

__all__ = ["NAME", "Reference", "Support", "hookimpl"]
