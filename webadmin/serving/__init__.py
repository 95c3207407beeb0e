"""How requests reach the Flask application, and what goes on after a view has answered.

    uvicorn (h11, websockets) ─► protocol.py  deadlines, how many connections
      ─► bridge.py    body, limits ─► a thread of the pool: Flask, by the rules of WSGI (environ.py)
           ─► an answer is sent from the event loop, so a slow reader holds no thread; a long one as it is made
           ─► handover.py: a view that answered `stream(…)` or `socket(…)` goes on as a coroutine

So an event stream and a websocket are routes of Flask like any other: sessions, guards and rights are asked in one
place, and asked again (`allowed()`) while the connection lasts. The threads are few and stay the same, since the store
keeps a connection for each.
"""
