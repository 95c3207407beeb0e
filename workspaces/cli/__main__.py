"""`python -m workspaces.cli`, which is how the supervisor starts the other processes."""

from workspaces.cli import main

main()
