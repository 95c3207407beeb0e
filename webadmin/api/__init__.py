"""The API: JSON under /api/v1, for programs, with the rights of the person whose token they show.

    request ─► token (auth.py) ─► rate (limits.py) ─► parameters and body, by pydantic (inputs.py)
      ─► the operation, a plain function of caller and arguments (workspaces.py, snapshots.py …)
      ─► a model of models.py as JSON ─► ETag of what is read, Idempotency-Key of what is written (calling.py)

Operations are declared once (operations.py). Routes, the scope that each needs, the checks of what comes in and the
OpenAPI document (document.py) are made from the declarations, so they cannot differ. Errors are problem+json
(problems.py). Cookies count for nothing here, so a page of another site can do nothing.
"""
