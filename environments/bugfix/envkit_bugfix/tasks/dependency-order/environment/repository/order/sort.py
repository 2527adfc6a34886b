"""Each package after all that it needs."""

from order.errors import Missing


def order(graph, wanted=None):
    """All packages (or those `wanted`, with what they need), in the order in which they can be built.

    What a package needs is built in the order that it says, and no earlier than it has to be. Missing, or Cycle.
    """
    built = []
    for name in graph if wanted is None else wanted:
        _build(graph, name, built)
    return built


def _build(graph, name, built):
    if name not in graph:
        raise Missing(name)
    for needed in graph[name]:
        _build(graph, needed, built)
    built.append(name)
