"""Graphs as text: `name: needed needed`, one a line."""


def parse(text):
    """What each package needs, by name, in the order of the text."""
    graph = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, needed = line.partition(":")
        graph[name.strip()] = needed.split()
    return graph
