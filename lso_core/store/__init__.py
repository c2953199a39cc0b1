"""The room that knows Redis: keys, scripts, connections and errors. Nobody outside it names a key or a command.

Its modules are imported one by one: some load numpy or redis, which takes as long as all else that `lso up` loads.
"""
