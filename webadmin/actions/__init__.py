"""What people do, as functions of plain arguments that raise WorkspacesError: pages and API share them."""
