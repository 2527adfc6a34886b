#!/bin/sh
set -e
cat >/app/order/sort.py <<'END'
"""Each package after all that it needs."""

from order.errors import Cycle, Missing


def order(graph, wanted=None):
    """All packages (or those `wanted`, with what they need), in the order in which they can be built.

    What a package needs is built in the order that it says, and no earlier than it has to be. Missing, or Cycle.
    """
    built = {}
    for name in graph if wanted is None else wanted:
        _build(graph, name, built)
    return list(built)


def _build(graph, first, built):
    path, left = [], []
    todo = [first]
    while todo:
        name = todo[-1]
        if name in built:
            todo.pop()
            continue
        if not path or path[-1] != name:
            if name not in graph:
                raise Missing(name)
            if name in left:
                raise Cycle([*path[path.index(name) :], name])
            path.append(name)
            left.append(name)
        needed = next((n for n in graph[name] if n not in built), None)
        if needed is None:
            built[name] = True
            path.pop()
            left.pop()
            todo.pop()
        elif needed == name:
            raise Cycle([name, name])
        else:
            todo.append(needed)
END
