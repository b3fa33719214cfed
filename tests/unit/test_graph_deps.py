"""Every module that a stage can import is a dependency of it, so no stale result stays."""

from pathlib import Path

import grimp
import pytest

from frontier.stages import declarations, is_within

ROOT = Path(__file__).parents[2]
# What every stage stands on and what cannot change a result of one.
FREE = tuple(f"frontier.{name}" for name in ("errors", "files", "params", "stages", "values"))
GRAPH = grimp.build_graph("frontier")


@pytest.mark.parametrize("key", sorted(declarations(ROOT)))
def test_deps_cover_the_imports(key):
    declared = declarations(ROOT)[key]
    reached = GRAPH.find_upstream_modules(f"frontier.stages.{declared.name}")
    wanted = {
        module
        for module in reached
        if module not in FREE and not module.startswith("frontier.tracking") and "." in module
    }
    uncovered = {
        module
        for module in wanted
        if not any(
            is_within(f"src/{module.replace('.', '/')}{suffix}", dep)
            for suffix in ("", ".py")
            for dep in declared.deps
        )
    }
    assert not uncovered
