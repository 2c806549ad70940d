"""SIGHUP: the configuration is read again."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from tests.harness.engine import Engine, running_engine


def reload_until(engine: Engine, wanted: str) -> None:
    """Sends SIGHUP and waits until the log says so."""
    assert engine.process is not None
    os.kill(engine.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + 10
    while wanted not in engine.log_tail():
        assert time.monotonic() < deadline, engine.log_tail()
        time.sleep(0.01)  # a log file has no event


def test_labels_and_registries_change_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "wherryd.json"
    file.write_text(json.dumps({"labels": ["rack=1"]}))
    with running_engine(options=[f"--config-file={file}"]) as engine:
        form = "{{.Labels}} {{.RegistryConfig.Mirrors}} {{.Debug}}"
        assert engine.docker("info", "-f", form) == "[rack=1] [] false"
        file.write_text(
            json.dumps(
                {"labels": ["rack=2"], "registry-mirrors": ["http://127.0.0.1:1"], "debug": True}
            )
        )
        reload_until(engine, "configuration reloaded")
        assert engine.docker("info", "-f", form) == "[rack=2] [http://127.0.0.1:1] true"
        until = str(int(time.time()) + 1)  # the client knows whole seconds only
        events = engine.docker("events", "--since", "1m", "--until", until, "-f", "type=daemon")
        assert "daemon reload" in events
        file.write_text("{")
        reload_until(engine, "reload of the configuration: ")
        assert engine.docker("info", "-f", "{{.Labels}}") == "[rack=2]"
