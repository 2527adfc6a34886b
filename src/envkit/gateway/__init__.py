"""An endpoint that records an external agent program's calls on the trace, in the three dialects that programs speak.

the program ──HTTP──> `http` (key, routes, retries) ──> `chat` | `responses` | `anthropic` (bodies to `Asked`, and back)
            ──> `gateway` (what is let through, how it ends) ──> `Chat.ask`, as for every other call
"""
