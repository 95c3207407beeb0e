"""What people do, as functions that raise WorkspacesError: pages and API share them."""
