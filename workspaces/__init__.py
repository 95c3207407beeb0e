"""Container workspaces: a personal, persistent container for every participant of a data challenge."""

__version__ = "0.1.0"
