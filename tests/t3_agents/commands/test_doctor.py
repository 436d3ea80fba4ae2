"""`t3 doctor` in processes of its own: on this machine, and on one that lacks something."""

import http.server
import json
import os
import subprocess
import sys
import threading
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement

from t3_agents.commands import doctor
from t3_agents.tools.toolbox import TOOLBOXES, modules_of


SECRET = "secret-value-that-must-not-be-shown"


def run(*arguments, before="", **environment):
    code = f"import sys\n{before}\nfrom t3_agents.cli import main\nsys.exit(main(['doctor', *{arguments}]))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == "" and SECRET not in done.stdout
    return done


def checks_of(done):
    return {(check["area"], check["name"]): check for check in json.loads(done.stdout)["checks"]}


@pytest.fixture(scope="module")
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def healthy(server):
    return run(
        "--json",
        HF_ENDPOINT=f"http://anna:{SECRET}@{server}",
        HF_HUB_OFFLINE="0",
        OPENAI_BASE_URL="http://127.0.0.1:9/v1",
        HF_TOKEN=SECRET,
        OPENAI_API_KEY=SECRET,
        SERPER_API_KEY=SECRET,
    )


def test_this_machine(healthy, server):
    checks = checks_of(healthy)
    assert healthy.returncode == 0 and json.loads(healthy.stdout)["ok"] is True
    assert checks["Packages", "transformers"]["state"] == "ready"
    assert checks["Network", "Hub"]["detail"] == f"http://{server} answers"
    assert checks["Network", "Model endpoint"]["state"] == "missing"
    assert "does not answer (ConnectionError)" in checks["Network", "Model endpoint"]["detail"]
    assert checks["Network", "Token of the Hub"]["detail"] == checks["Network", "OPENAI_API_KEY"]["detail"] == "set"
    assert checks["Search engines", "serper"]["state"] == "ready"
    assert any(area == "Executor" for area, _ in checks)


def test_every_tool_is_looked_at_and_what_is_missing_says_what_to_do(healthy):
    checks = checks_of(healthy)
    embedded = {name for area, name in checks if area == "Tools: embedded"}
    assert embedded == {tool.name for tool in TOOLBOXES["embedded"]}
    assert all(checks["Tools: embedded", name]["state"] == "ready" for name in embedded)
    assert len([name for area, name in checks if area == "Tools: GTA, embedded"]) == 14
    missing = [check for check in checks.values() if check["state"] == "missing"]
    assert missing and all(check["install"] for check in missing)


def test_what_is_broken(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(
        before="sys.modules['rapidocr'] = sys.modules['diffusers'] = None",
        T3_CACHE=str(tmp_path / "file" / "cache"),
        HF_HUB_OFFLINE="1",
        COLUMNS="200",
    )
    assert done.returncode == 1
    assert "offline by HF_HUB_OFFLINE" in done.stdout and "file/cache cannot be written" in done.stdout
    ending = done.stdout[done.stdout.index("parts are missing") :]
    assert "visualizer: pip install 't3-agents[tools]'" in ending and "set T3_CACHE" in ending
    assert "diffusers" not in ending, "the defaults do not need it"


@pytest.mark.parametrize("name", TOOLBOXES)
def test_extras_bring_what_the_tools_import(name):
    known = [requirement for text in requires("t3-agents") if (requirement := Requirement(text)).marker]
    for tool in TOOLBOXES[name]:
        modules, extras = modules_of(tool)
        brought = {r.name for r in known if any(r.marker.evaluate({"extra": extra}) for extra in extras.split(","))}
        # sympy comes with torch.
        wanted = {doctor._PIP_NAMES.get(module, module) for module in modules} - {"sympy"}
        assert wanted <= brought, tool.name


def test_help_names_the_command():
    done = subprocess.run([sys.executable, "-m", "t3_agents.cli"], capture_output=True, text=True, check=True)
    assert "doctor" in done.stdout and "what to install" in done.stdout
