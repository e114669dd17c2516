"""The tree is the diagram: who may import whom, and names that agree everywhere."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NODES = ("encoder", "retriever", "features", "generator")
MAY_IMPORT_CATALOG = {"orchestrator", "gateway", "admin"}
HEAVY = ("torch", "vllm", "feast", "onnxruntime", "qdrant_edge", "qdrant_client", "faiss", "xllamacpp", "pandas")
NODE_FILES = {"__init__.py", "__main__.py", "settings.py", "server.py"}


def imports(path: Path) -> set[str]:
    """Every module a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules(*parts: str) -> list[Path]:
    return sorted(ROOT.joinpath(*parts).rglob("*.py"))


def forbidden(service: str, name: str, path: Path) -> bool:
    """Whether a file of the service must not import the module."""
    parts = name.split(".")
    if parts[0] == "feature_repo":
        return True
    if parts[0] == "pipelines":
        return service not in ("orchestrator", "admin")
    if parts[0] != "services" or len(parts) < 2 or parts[1] in (service, "common", "protos"):
        return False
    if parts[1] == "catalog":
        return service not in MAY_IMPORT_CATALOG
    if service == "gateway" and parts[1] == "orchestrator":
        return len(parts) > 2 and parts[2] != "graph"
    return True


@pytest.mark.parametrize("service", ["gateway", "orchestrator", "catalog", "admin", *NODES])
def test_a_service_imports_only_what_its_walls_allow(service):
    allowed_beyond = {"services.orchestrator.graph"} if service == "gateway" else set()
    for path in modules("services", service):
        wrong = {name for name in imports(path) if forbidden(service, name, path)} - allowed_beyond
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_common_imports_no_service():
    for path in modules("services", "common"):
        wrong = {
            name
            for name in imports(path)
            if name.startswith(("services.", "pipelines"))
            and not name.startswith(("services.common", "services.protos"))
        }
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_pipelines_import_no_node_and_no_engine():
    for path in modules("pipelines"):
        wrong = {
            name
            for name in imports(path)
            if name.startswith("services.") and not name.startswith(("services.common", "services.catalog"))
        }
        assert not wrong and not imports(path) & set(HEAVY), path


def test_nothing_but_tests_imports_the_feature_repository():
    for path in [*modules("services"), *modules("pipelines"), *modules("benchmarks")]:
        assert not any(name.split(".")[0] == "feature_repo" for name in imports(path)), path


@pytest.mark.parametrize("module", ["services.gateway.app", "services.orchestrator.app", "services.admin.__main__"])
def test_gateway_worker_and_command_line_load_no_engine(module):
    import subprocess

    code = f"import sys, {module}; print(sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("node", NODES)
def test_every_node_has_the_same_files(node):
    here = ROOT / "services" / node
    names = {path.name for path in here.iterdir()}
    assert names >= NODE_FILES | {f"{node}.py", "backends"}
    assert {path.name for path in (here / "backends").iterdir()} >= {"__init__.py", "base.py", "memory.py"}


def test_directory_extra_and_proto_agree_in_name():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    services = {path.parent.name for path in ROOT.glob("services/*/__main__.py")}
    assert services <= set(extras)
    protos = {path.stem for path in ROOT.glob("services/protos/*.proto")} - {"common"}
    assert protos == set(NODES) == {path.parent.name for path in ROOT.glob("services/*/server.py")}
    for node in NODES:
        text = (ROOT / "services" / "protos" / f"{node}.proto").read_text()
        assert f"package almanac.{node}.v1;" in text and f"service {node.capitalize()} " in text


def test_the_base_installation_has_no_torch():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    constraints = (ROOT / "infra" / "constraints.txt").read_text()
    naming = {name for name, lines in extras.items() for line in lines if "torch" in line or "transformers" in line}
    assert naming == {"torch"}, "no other extra brings torch, by itself or by `almanac[torch]`"
    assert (
        "\ntorch==" not in constraints
        and "\nsentence-transformers==" not in constraints
        and "nvidia" not in constraints
    )
