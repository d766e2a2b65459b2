"""looopy in a terminal; needs the extra `cli`.

`app.py` has the commands. Each puts together an agent (`load.py`, `demo.py`), a way to watch its run to the end (`watch.py`) and a way to
show the events (`show.py`, `demo.py`). Nothing here knows more of looopy than any other user of it.
"""
