from __future__ import annotations

from pathlib import Path

import yaml

from reconciler.gateway.doors.open import parse_doors
from reconciler.index.user_config import load_config

EXAMPLES = Path(__file__).parents[3] / "examples" / "serve"


def test_the_kubernetes_example_has_a_valid_configuration(tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text()))
    (config,) = (each for each in documents if each["kind"] == "ConfigMap")
    (tmp_path / "config.yaml").write_text(config["data"]["config.yaml"])
    found = load_config(tmp_path / "config.yaml").serve
    assert found.cache_size == 400 << 30
    (server,) = (each for each in documents if each["kind"] == "StatefulSet")
    (container,) = server["spec"]["template"]["spec"]["containers"]
    options = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
    assert parse_doors(options["doors"]) == ("hf", "oci", "ollama")
    assert set(options) == {"doors", "index", "upstream"}
    named = {each["name"] for each in container["env"]}
    assert {rule.token_env for rule in found.access} <= named
