"""`litellm --config … --host … --port …` as far as looopy knows it: it starts at once, and the stand-in is behind each model.

The first line that it prints is its process id. `SCRIPTED` in the environment says what goes wrong, `SCRIPTED_WATCH` a port on which somebody
wants to see it live and die.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from pathlib import Path

from looopy.testing import ScriptedServer
from looopy.testing.standin import stand_in_answer

_, _, config, _, host, _, port = sys.argv
names = [model["model_name"] for model in json.loads(Path(config).read_text())["model_list"]]
print(os.getpid(), flush=True)
if watch := os.environ.get("SCRIPTED_WATCH"):
    seen = socket.create_connection(("127.0.0.1", int(watch)))

match os.environ.get("SCRIPTED", "").split(":"):
    case ["dies"]:
        print(
            f"no such thing; the key is {os.environ['LITELLM_MASTER_KEY']}, the other {os.environ['LOOOPY_PROXY_SECRET_1']}"
        )
        sys.exit(3)
    case ["hangs"]:
        threading.Event().wait()
    case ["taken-once", marker] if not Path(marker).exists():
        Path(marker).touch()
        print("ERROR: [Errno 98] error while attempting to bind on address: address already in use")
        sys.exit(1)

server = ScriptedServer(otherwise=stand_in_answer, models=names, api_key=os.environ["LITELLM_MASTER_KEY"])
with server.running(int(port)):
    threading.Event().wait()
