"""Apply Feast's definitions: python -m services.features.backends.feast_apply DIRECTORY DEFINITIONS.

DIRECTORY holds feature_store.yaml. A process for this alone, because Feast changes the working directory and imports
the definitions by their path in it.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(directory: Path, definitions: Path) -> None:
    from feast.repo_config import load_repo_config
    from feast.repo_operations import apply_total

    sys.path.insert(0, str(definitions))
    apply_total(load_repo_config(directory, directory / "feature_store.yaml"), definitions, skip_source_validation=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
