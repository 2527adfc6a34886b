"""What holds where a project says nothing."""

DEFAULTS = {
    "name": "unnamed",
    "build": {"target": "release", "flags": ["-Wall"], "env": {}},
    "tests": {"paths": ["tests"], "timeout": 60},
}
