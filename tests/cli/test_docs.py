"""The documentation does not rot: help pages, links, README commands, experiment files in it."""

import re
from pathlib import Path

import pytest
import yaml
from help_pages import pages

from headstart.config import load_experiment, shipped_experiments
from headstart.config.schema import Analysis

ROOT = Path(__file__).parents[2]
MARKDOWN = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def test_the_command_line_page_is_what_help_prints() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text()
    assert page == pages(), "run: python tests/cli/help_pages.py > docs/reference/cli.md"


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def yaml_blocks() -> list[tuple[str, str]]:
    found = []
    for path in MARKDOWN:
        for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL):
            if "\nname:" in f"\n{block}":
                found.append((path.name, block))
    return found


def test_experiment_files_in_the_documentation_are_valid(tmp_path: Path) -> None:
    blocks = yaml_blocks()
    assert len(blocks) >= 2
    for name, block in blocks:
        path = tmp_path / "study.yaml"
        path.write_text(block)
        assert load_experiment(path).parts, name


def test_the_guide_tells_the_defaults_of_the_analysis() -> None:
    guide = (ROOT / "docs/guides/experiment-file.md").read_text()
    (block,) = [b for b in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL) if "analysis:" in b]
    assert yaml.safe_load(block)["analysis"] == Analysis().model_dump()


def test_parts_in_the_guide_are_valid(tmp_path: Path) -> None:
    guide = (ROOT / "docs/guides/experiment-file.md").read_text()
    block = next(b for b in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL) if "parts:" in b)
    raw = {
        "name": "x", "title": "x", "data": {"kind": "auto", "path": "p"},
        "backbones": {"main": {"name": "packaged/efficientnet-lite0"}},
        **yaml.safe_load(block),
    }  # fmt: skip
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    assert load_experiment(path).parts["c-momentum"].best_of == "b-learning-rate"


def test_the_readme_names_every_study_and_only_commands_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in shipped_experiments():
        assert f"`{name}`" in readme
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\$ make (\w+)", readme):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
