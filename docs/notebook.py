"""`make notebook`: run docs/notebook.ipynb and keep what it shows, in itself and as the page notebook.md.

It runs against two data stores of `craftsync serve`, in a folder that is removed afterwards.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import numpy as np
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("notebook.ipynb")
PAGE = NOTEBOOK.with_suffix(".md")
SECONDS = 120
_VARIES = (
    (r"<td>seconds</td><td>[\d.]+</td>", "<td>seconds</td><td>0.1</td>"),
    (r"seconds=[\d.]+,", "seconds=0.1,"),
    (r"/migrations/[0-9a-f]+/", "/migrations/…/"),
)
"""What differs from one run to the next, and what is kept of it."""


@contextmanager
def serving(store: Path, variables: dict[str, str]) -> Iterator[dict[str, str]]:
    """Serve a folder as an environment; give the variables that lead there."""
    words = [str(Path(sys.executable).with_name("craftsync")), "serve", str(store), "--port", "0"]
    with subprocess.Popen(words, env=variables, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            printed = [shlex.split(server.stdout.readline())[1] for _ in range(3)]
            yield dict(line.split("=", 1) for line in printed)
        finally:
            server.terminate()


def prepare(folder: Path) -> None:
    """Put a data set into the data store: what flats of some size cost, invented."""
    random = np.random.default_rng(2026)
    surface = random.integers(20, 140, 200)
    rooms = 1 + surface // 30
    price = 3100 * surface + 8000 * rooms + random.normal(0, 9000, 200)
    (folder / "dev" / "datasets").mkdir(parents=True)
    rows = (
        f"{one},{many},{cost:.0f}" for one, many, cost in zip(surface, rooms, price, strict=True)
    )
    text = "\n".join(("surface,rooms,price", *rows))
    (folder / "dev" / "datasets" / "flats.csv").write_text(f"{text}\n", "utf-8")


def run(notebook: Any, folder: Path) -> Any:
    """Run a notebook between two environments of this folder; return it with what it shows."""
    prepare(folder)
    variables = {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "CRAFTSYNC_CONFIG": str(folder / "config.yaml"),
        "CRAFTSYNC_STATE_DIR": str(folder / "state"),
    }
    (folder / "work").mkdir()
    (folder / "config.yaml").write_text("")
    with ExitStack() as stack:
        dev = stack.enter_context(serving(folder / "dev", variables))
        prod = stack.enter_context(serving(folder / "prod", variables))
        url = prod["CRAFT_AI_ENVIRONMENT_URL"]
        where = f"store: craft-ai, url: {url}, control_url: {url}, token_env: PROD_TOKEN"
        (folder / "config.yaml").write_text(f"environments:\n  prod: {{{where}}}\n")
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": str(folder / "work")}},
        )
        token = {"PROD_TOKEN": prod["CRAFT_AI_SDK_TOKEN"]}
        return _tidied(client.execute(env={**variables, **dev, **token}), folder)


def _tidied(notebook: Any, folder: Path) -> Any:
    """Take out of what is shown what is of this run and this machine."""
    text = nbformat.writes(notebook).replace(str(folder), "~")
    for pattern, instead in _VARIES:
        text = re.sub(pattern, instead, text)
    tidied = nbformat.reads(text, as_version=4)
    tidied.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    return tidied


def page_of(notebook: Any) -> str:
    """Return the notebook as a page: its text, its code, and what each cell shows."""
    parts = ["<!-- Made by `make notebook` from docs/notebook.ipynb. -->"]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts += [f"```py\n{cell.source}\n```", *_shown(cell.outputs)]
    return "\n\n".join(parts) + "\n"


def _shown(outputs: Sequence[Any]) -> Iterator[str]:
    for output in outputs:
        data = output.get("data", {})
        if "text/html" in data:
            html = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.S)
            yield re.sub(r"\n\s*", "\n", html).strip()
        else:
            text = output.get("text") or data.get("text/plain", "")
            yield f"```text\n{text.rstrip()}\n```"


def main() -> None:
    """Run the notebook and write both files."""
    with TemporaryDirectory() as folder:
        notebook = run(nbformat.read(NOTEBOOK, as_version=4), Path(folder).resolve())
    nbformat.write(notebook, NOTEBOOK)
    PAGE.write_text(page_of(notebook), "utf-8")


if __name__ == "__main__":
    main()
