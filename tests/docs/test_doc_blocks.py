"""The runner of documentation pages: what it runs, and that it fails where a page lies."""

import pytest
from doc_blocks import run_page


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run(text):
        page = tmp_path / "page.md"
        page.write_text(text)
        return run_page(page, tmp_path, monkeypatch)

    return run


def test_blocks_are_written_run_and_compared_in_order(run, tmp_path):
    page = """Words.

```yaml title=sub/a.yaml
key: 1
```
```python
from pathlib import Path
value = Path("sub/a.yaml").read_text()
```
```python
print(value, "and   more")
```
```text output
key: 1
...
and more
```
```bash
cat sub/a.yaml > copy.txt
posekit schema diff coco coco
```
```bash not-run
exit 1
```
"""
    assert run(page) == 5
    assert (tmp_path / "copy.txt").read_text() == "key: 1\n"


def test_a_command_that_fails_fails_the_page_with_its_line(run):
    with pytest.raises(AssertionError, match=r"page\.md, line 2: `false` ended with 1"):
        run("Words.\n```bash\nfalse\n```\n")
    with pytest.raises(AssertionError, match="posekit schema diff coco cocoo` ended with 2"):
        run("```bash\nposekit schema diff coco cocoo\n```\n")


def test_an_expected_failure_must_happen(run):
    assert run("```bash exit=1\nfalse\n```\n") == 1
    with pytest.raises(AssertionError, match="ended with 0"):
        run("```bash exit=1\ntrue\n```\n")


def test_output_that_differs_fails_the_page(run):
    with pytest.raises(AssertionError, match="lacks the line 'three'"):
        run("```bash\necho one\necho two\n```\n```text output\none\nthree\n```\n")
    with pytest.raises(AssertionError, match="lacks the line 'one'"):
        run("```bash\necho one\necho two\n```\n```text output\ntwo\none\n```\n")


def test_python_runs_where_nothing_is_imported_yet(run):
    run("```python\nimport sys\nassert 'numpy' not in sys.modules\n```\n")
    page = "Words.\n```python\nimport posekit\nposekit.config.recipe.load_recipe\n```\n"
    with pytest.raises(AssertionError, match=r"page\.md, line 2: the block raised"):
        run(page)
