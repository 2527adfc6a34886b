"""Runs the functions named test_* of the files beside it over the code in the folder that is given, and counts."""

import importlib.util
import sys
import traceback
from pathlib import Path

sys.path[:0] = [sys.argv[1], str(Path(__file__).parent)]
failed = passed = 0
for file in sorted(Path(__file__).parent.glob("test_*.py")):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in [name for name in vars(module) if name.startswith("test_")]:
        try:
            getattr(module, name)()
            passed += 1
        except Exception:
            failed += 1
            print(name, traceback.format_exc(limit=-1))
print(passed, "passed,", failed, "failed")
sys.exit(failed > 0 or passed == 0)
