"""Which families of reasoning-gym are asked: all but those that an audit found not to be trusted, each with its reason.

`tests/environments/test_puzzles.py` audits the whole library anew.
"""

from __future__ import annotations

EVALUATES = "its scorer evaluates the answer as Python, in this process"
UNSTABLE = "two processes make different tasks from one seed"
REFUSES_GOLD = "its scorer does not give its own answer the full score"
RAISES = "its scorer raises on some answers that are wrong"

EXCLUDED = {
    "binary_matrix": EVALUATES,
    "boxnet": REFUSES_GOLD,
    "calendar_arithmetic": RAISES,
    "coin_flip": "its scorer pays 0 for most tasks, and raises on long numbers",
    "complex_arithmetic": "its scorer pays the answer nan",
    "composite": "it is a mixture of other families",
    "countdown": EVALUATES,
    "game_of_life": RAISES,
    "game_of_life_halting": "its scorer pays any answer where the right one is no",
    "graph_color": REFUSES_GOLD,
    "intermediate_integration": EVALUATES,
    "isomorphic_strings": UNSTABLE,
    "knight_swap": UNSTABLE,
    "list_functions": UNSTABLE,
    "n_queens": EVALUATES,
    "polynomial_equations": "its scorer pays 0 where there is no solution",
    "polynomial_multiplication": EVALUATES,
    "prime_factorization": RAISES,
    "propositional_logic": REFUSES_GOLD,
    "puzzle24": EVALUATES,
    "ransom_note": UNSTABLE,
    "rubiks_cube": REFUSES_GOLD,
    "rush_hour": REFUSES_GOLD,
    "simple_integration": EVALUATES,
    "spiral_matrix": EVALUATES,
    "string_insertion": EVALUATES,
    "time_intervals": RAISES,
    "word_ladder": UNSTABLE,
}
