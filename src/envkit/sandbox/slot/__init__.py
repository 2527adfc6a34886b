"""The slot: the fastest sandbox that isolates every execution, made of nothing but Python and the kernel."""
