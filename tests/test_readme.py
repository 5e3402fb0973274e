"""The READMEs' Python runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["README.md", "README_zh.md"])
def test_python_blocks(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / name).read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, name, "exec"), scope)
    printed = capsys.readouterr().out
    city = "Trondheim" if name == "README.md" else "特隆赫姆"
    assert f"""ToolCall(name='get_weather', arguments='{{"city": "{city}"}}', id='call_""" in printed


@pytest.mark.parametrize("name", ["README.md", "README_zh.md"])
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", (REPOSITORY / name).read_text(encoding="utf-8")):
        assert (REPOSITORY / target).exists(), target


def test_the_tree_names_every_file_and_folder_of_the_package() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    tree = text[text.index("```\nglm4/") :]
    for path in (REPOSITORY / "glm4").iterdir():
        if path.name not in ("__pycache__", "py.typed", "__init__.py", "__main__.py"):
            assert path.name in tree, f"README's tree lacks {path.name}"
