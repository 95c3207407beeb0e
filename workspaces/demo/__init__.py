"""`workspaces demo`: the whole story on a throw-away state directory, with the real `ssh` program and web pages.

    Demo.run ─► Stage (state directory, engine, `workspaces serve`) ─► story.STEPS, one after the other ─► tidy up

Each step is a function that raises StepFailed when what it saw is not what the story says. The rootfs of the base
image is kept in the user's cache directory, so that the second demonstration need not fetch it again; all else goes.
"""

from workspaces.demo.stage import Demo

__all__ = ["Demo"]
