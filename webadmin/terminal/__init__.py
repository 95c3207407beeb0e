"""The terminal in the browser: a websocket that is one ssh session of the signed-in person.

    page (xterm.js) ─► websocket ─► relay.py ─► ssh on this host, with a certificate of one minute (door.py) ─► gateway

The gateway sees a login like any other: its rules, limits, greeting, records and recordings hold, and this application
learns nothing that the person could not do with ssh. The session behind the page stands for the password; while the
terminal is open it is asked again whether it is there still.
"""
